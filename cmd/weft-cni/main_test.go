package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// asPlugin makes the test program the plugin.
const asPlugin = "WEFT_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// plugin runs the program with these variables, stdin and arguments.
func plugin(t *testing.T, environment []string, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), executable, args...)
	c.Env = append(environment, asPlugin+"=1")
	c.Stdin = strings.NewReader(stdin)
	var out, errOut strings.Builder
	c.Stdout, c.Stderr = &out, &errOut
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), c.ProcessState.ExitCode()
}

func TestByHand(t *testing.T) {
	for _, test := range []struct {
		args        []string
		out, errOut string
		status      int
	}{
		{nil, "", "weft pod add", 0},
		{[]string{"--help"}, "weft pod add", "", 0},
		{[]string{"--version"}, "dev", "", 0},
		{[]string{"ADD"}, "", "unknown argument \"ADD\"", 2},
	} {
		out, errOut, status := plugin(t, nil, "", test.args...)
		if !strings.Contains(out, test.out) || !strings.Contains(errOut, test.errOut) || status != test.status || test.out == "" && out != "" {
			t.Errorf("%v: status %d, %q, %q", test.args, status, out, errOut)
		}
	}
}

func TestVersion(t *testing.T) {
	out, _, status := plugin(t, []string{"CNI_COMMAND=VERSION"}, `{"cniVersion":"1.0.0"}`)
	var answer struct{ SupportedVersions []string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil || status != 0 {
		t.Fatal(status, err, out)
	}
	if want := []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}; !slices.Equal(answer.SupportedVersions, want) {
		t.Errorf("versions %v, want %v", answer.SupportedVersions, want)
	}
}

// TestNoDaemon says what to start, under the code that has a runtime try again.
func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	config := `{"cniVersion":"1.1.0","name":"weft","type":"weft-cni","socket":"` + filepath.Join(dir, "weft.sock") + `","dataDir":"` + filepath.Join(dir, "attachments") + `"}`
	for command, code := range map[string]int{"ADD": 11, "STATUS": 51} {
		out, _, status := plugin(t, []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=a", "CNI_IFNAME=eth0", "CNI_NETNS=/run/netns/none", "CNI_PATH=/opt/cni/bin"}, config)
		var answer struct {
			Code int
			Msg  string
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil || status != 1 || answer.Code != code || !strings.Contains(answer.Msg, "systemctl start weftd") {
			t.Errorf("%s: status %d, %v, %s", command, status, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "attachments")); err == nil {
		t.Error("a refused ADD has made the directory of attachments")
	}
}
