//go:build linux

package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	wireguardPort = 51820
	// wireguardOverhead is what wg-quick takes off the underlay's MTU: it leaves room for an
	// outer IPv6 header also where there is none.
	wireguardOverhead = 80
	// wireguardSockets is where wireguard-go listens for its configuration.
	wireguardSockets = "/var/run/wireguard"
)

// wireguardSubject is the userspace implementation of WireGuard, which encrypts.
func wireguardSubject() subject {
	return subject{
		name:     "wireguard-go",
		about:    "WireGuard in userspace, which encrypts",
		binaries: []string{"wireguard"},
		join:     joinWireguard,
	}
}

func joinWireguard(ctx context.Context, n *network) error {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return fmt.Errorf("make a key for WireGuard: %w", err)
		}
	}
	for i, way := range n.directions() {
		self, other := way[0], way[1]
		// The folder of the sockets is one for all network namespaces, so the name is the run's.
		device := fmt.Sprintf("wg%d%c", os.Getpid(), 'a'+i)
		if err := startWireguard(n, self, device); err != nil {
			return err
		}
		settings := fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\nendpoint=%s:%d\n",
			keys[i].Bytes(), wireguardPort, keys[1-i].PublicKey().Bytes(), other.Addr, wireguardPort)
		for _, cidr := range other.cidrs {
			settings += fmt.Sprintf("allowed_ip=%s\n", cidr)
		}
		err := n.waitUntil(ctx, joinPatience, func(context.Context) error { return configureWireguard(device, settings) })
		if err != nil {
			return fmt.Errorf("configure wireguard-go on %s: %w", self, err)
		}
		mtu := strconv.Itoa(n.mtu - wireguardOverhead)
		if _, err := self.Run(ctx, "ip", "link", "set", device, "mtu", mtu, "up"); err != nil {
			return err
		}
		for _, cidr := range other.cidrs {
			if _, err := self.Run(ctx, "ip", "route", "add", cidr.String(), "dev", device); err != nil {
				return err
			}
		}
	}
	return n.setPodMTU(n.mtu - wireguardOverhead)
}

func startWireguard(n *network, self *site, device string) (err error) {
	self.daemon, err = self.Start("env", "WG_PROCESS_FOREGROUND=1", filepath.Join(n.bin, "wireguard"), "-f", device)
	if err != nil {
		return err
	}
	n.leave = append(n.leave, func() error {
		err := self.daemon.Kill() // else it may make its socket after this
		if removeErr := os.Remove(wireguardSocket(device)); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
		return err
	})
	return nil
}

func wireguardSocket(device string) string { return filepath.Join(wireguardSockets, device+".sock") }

// configureWireguard speaks WireGuard's cross-platform userspace protocol.
func configureWireguard(device, settings string) error {
	conn, err := net.Dial("unix", wireguardSocket(device))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "set=1\n"+settings+"\n"); err != nil {
		return err
	}
	answer := make([]byte, 256)
	count, err := conn.Read(answer)
	if err != nil {
		return fmt.Errorf("read wireguard-go's answer: %w", err)
	}
	if got := strings.TrimSpace(string(answer[:count])); got != "errno=0" {
		return fmt.Errorf("wireguard-go answers %q", got)
	}
	return nil
}
