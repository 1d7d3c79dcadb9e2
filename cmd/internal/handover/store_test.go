package handover

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// What systemd is told, in order: what is replaced goes first, and only then comes what is to be kept.
func TestStoreTellsSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	var group errgroup.Group
	group.Go(func() error {
		text, oob := make([]byte, 4096), make([]byte, 4096)
		for {
			n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
			if err != nil {
				return nil // closed by the test
			}
			messages, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil {
				return err
			}
			count := 0
			for i := range messages {
				fds, err := unix.ParseUnixRights(&messages[i])
				if err != nil {
					return err
				}
				count += len(fds)
				closeDescriptors(fds)
			}
			said = append(said, fmt.Sprintf("%s with %d", strings.ReplaceAll(string(text[:n]), "\n", " "), count))
		}
	})
	st, found, foreign, err := OpenStore(socket)
	if err != nil || len(found) != 0 || len(foreign) != 0 {
		t.Fatalf("%v %v %v", found, foreign, err)
	}
	s := files(t, 2)
	for range 2 {
		if err := st.Put("tun", s.Take("part")); err != nil {
			t.Fatal(err)
		}
		s.Add("part", files(t, 1).Take("part"))
	}
	if err := st.Empty(); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	store, remove := "FDSTORE=1 FDPOLL=0 FDNAME=weft1.tun.%d with 1", "FDSTOREREMOVE=1 FDNAME=weft1.tun.%d with 0"
	want := []string{
		fmt.Sprintf(store, 0), fmt.Sprintf(store, 1),
		fmt.Sprintf(remove, 0), fmt.Sprintf(remove, 1), "BARRIER=1 with 1", fmt.Sprintf(store, 0),
		fmt.Sprintf(remove, 0), "BARRIER=1 with 1",
	}
	if !slices.Equal(said, want) {
		t.Errorf("systemd heard %q, want %q", said, want)
	}
}
