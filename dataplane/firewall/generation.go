package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// generation is the number of the ruleset, which grows with every transaction of anybody in the network namespace
// (nf_tables_getgen, net/netfilter/nf_tables_api.c). It is never 0.
func (f *Firewall) generation() (uint32, error) {
	fail := func(err error) (uint32, error) {
		return 0, fmt.Errorf("ask nf_tables for the generation of its ruleset: %w", err)
	}
	answer, err := f.query.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, nfgenmsgLen),
	})
	if err != nil {
		return fail(err)
	}
	if len(answer) != 1 || len(answer[0].Data) < nfgenmsgLen {
		return fail(errors.New("no answer"))
	}
	attrs, err := netlink.NewAttributeDecoder(answer[0].Data[nfgenmsgLen:])
	if err != nil {
		return fail(err)
	}
	attrs.ByteOrder = binary.BigEndian
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_GEN_ID {
			return attrs.Uint32(), attrs.Err()
		}
	}
	return fail(errors.New("the answer holds none"))
}

const nfgenmsgLen = 4 // struct nfgenmsg, linux/netfilter/nfnetlink.h
