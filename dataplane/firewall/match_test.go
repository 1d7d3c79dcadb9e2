package firewall

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// What is certain of a probe holds for every packet of it: the rule is carried out on one.
func TestCertainOfAddressesHoldsForEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &families[rapid.IntRange(0, 1).Draw(t, "family")]
		octets := f.bits / 8
		few := rapid.SampledFrom([]byte{0, 10, 0x80, 0xff})
		within := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Prefix {
			addr, _ := netip.AddrFromSlice(rapid.SliceOfN(few, octets, octets).Draw(t, "address"))
			return netip.PrefixFrom(addr, rapid.IntRange(0, f.bits).Draw(t, "bits")).Masked()
		}), 1, 3).Draw(t, "within")
		p := &probe{family: f, src: within}

		length := rapid.IntRange(1, octets).Draw(t, "length")
		load := &expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: f.src, Len: uint32(length)}
		mask := slices.Repeat([]byte{0xff}, length)
		exprs := []expr.Any{load}
		if rapid.Bool().Draw(t, "masked") {
			mask = rapid.SliceOfN(rapid.SampledFrom([]byte{0xff, 0xff, 0xc0, 0, 1}), length, length).Draw(t, "mask")
			exprs = append(exprs, &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: uint32(length),
				Mask: mask, Xor: make([]byte, length)})
		}
		want := rapid.SliceOfN(few, length, length).Draw(t, "compared")
		op := rapid.SampledFrom([]expr.CmpOp{expr.CmpOpEq, expr.CmpOpNeq}).Draw(t, "op")
		exprs = append(exprs, &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: want})
		said := p.effectOf(exprs).matches

		packet := rapid.SliceOfN(few, octets, octets).Draw(t, "packet")
		addr, _ := netip.AddrFromSlice(packet)
		if !slices.ContainsFunc(within, func(w netip.Prefix) bool { return w.Contains(addr) }) {
			return
		}
		equal := true
		for i := range length {
			equal = equal && packet[i]&mask[i] == want[i]
		}
		matches := equal == (op == expr.CmpOpEq)
		if said == always && !matches || said == never && matches {
			t.Fatalf("said %d of %v, but for %v the rule matches: %t", said, within, addr, matches)
		}
	})
}

func FuzzCommentOf(f *testing.F) {
	f.Add(comment("weft"), "weft")
	f.Add([]byte{1, 200, 0}, "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		commentOf(&nftables.Rule{UserData: data})
		if len(text) > 250 || slices.Contains([]byte(text), 0) {
			return
		}
		if got := commentOf(&nftables.Rule{UserData: comment(text)}); got != text {
			t.Fatalf("%q comes back as %q", text, got)
		}
	})
}
