package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/version"
)

// pcapng writes captured packets to a file as Wireshark and tcpdump read it
// (draft-ietf-opsawg-pcapng). gopacket writes its head and the interfaces; the packets are written here, since
// gopacket's have no options, and so neither a direction nor a comment.
//
// An interface of the file is a device, and one more for each reason for which packets were dropped there: so
// frame.interface_name selects them in Wireshark. All have the link type that `tcpdump -i any` writes: of raw IP, which
// the packets are, libpcap reads one interface only (1.10.3 compares its DLT_RAW, 12, with LINKTYPE_RAW, 101: sf-pcapng.c,
// pcap_ng_next_packet).
type pcapng struct {
	out        *bufio.Writer
	head       *pcapgo.NgWriter
	devices    map[string]string // by layer
	snaplen    int
	interfaces map[string]int // by name
	block      []byte
}

// newPcapng writes the head of a file. devices are the names of those that packets pass, by layer.
func newPcapng(w io.Writer, devices map[string]string, snaplen int) (*pcapng, error) {
	p := &pcapng{out: bufio.NewWriterSize(w, 64<<10), devices: devices, snaplen: snaplen, interfaces: make(map[string]int)}
	first := devices[control.CaptureInner]
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "weft " + version.String(),
	}}
	var err error
	if p.head, err = pcapgo.NewNgWriterInterface(p.out, p.device(first), options); err != nil {
		return nil, fmt.Errorf("begin the capture file: %w", err)
	}
	p.interfaces[first] = 0
	return p, p.flush()
}

func (p *pcapng) device(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{
		Name: name, OS: runtime.GOOS, LinkType: layers.LinkTypeLinuxSLL, SnapLength: uint32(p.snaplen + cookedLen), TimestampResolution: 9,
	}
}

// Enhanced packet blocks, section 4.3 of the draft.
const (
	packetBlock   = 6
	optionEnd     = 0
	optionComment = 1
	optionFlags   = 2
	flagIn        = 1
	flagOut       = 2
)

// write writes a packet. It may stay in the buffer until flush.
func (p *pcapng) write(c *control.CapturedPacket) error {
	index, err := p.interfaceOf(c)
	if err != nil {
		return fmt.Errorf("write to the capture file: %w", err)
	}
	at := uint64(c.Time.UnixNano())
	b := binary.LittleEndian.AppendUint32(p.block[:0], packetBlock)
	kept, length := cookedLen+len(c.Data), cookedLen+max(c.Length, len(c.Data))
	for _, field := range []uint32{0, uint32(index), uint32(at >> 32), uint32(at), uint32(kept), uint32(length)} {
		b = binary.LittleEndian.AppendUint32(b, field)
	}
	b = padded(append(appendCooked(b, c), c.Data...))
	flags := uint32(flagIn)
	if c.Direction == control.CaptureOut {
		flags = flagOut
	}
	b = appendOption(b, optionFlags, binary.LittleEndian.AppendUint32(nil, flags))
	b = appendOption(b, optionComment, []byte(comment(c)))
	b = appendOption(b, optionEnd, nil)
	whole := uint32(len(b) + 4)
	binary.LittleEndian.PutUint32(b[4:], whole)
	p.block = binary.LittleEndian.AppendUint32(b, whole)
	if _, err := p.out.Write(p.block); err != nil {
		return fmt.Errorf("write to the capture file: %w", err)
	}
	return nil
}

// The header of a link type of its own, LINKTYPE_LINUX_SLL: which way, a device without addresses, an EtherType.
const (
	cookedLen   = 16
	cookedIn    = 0 // LINUX_SLL_HOST
	cookedOut   = 4 // LINUX_SLL_OUTGOING
	arphrdNone  = 0xfffe
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	addressRoom = 2 + 8 // the length of an address, 0, and the address
)

func appendCooked(b []byte, c *control.CapturedPacket) []byte {
	way, etherType := uint16(cookedIn), uint16(etherIPv4)
	if c.Direction == control.CaptureOut {
		way = cookedOut
	}
	if len(c.Data) > 0 && c.Data[0]>>4 == 6 {
		etherType = etherIPv6
	}
	b = binary.BigEndian.AppendUint16(b, way)
	b = binary.BigEndian.AppendUint16(b, arphrdNone)
	b = append(b, make([]byte, addressRoom)...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// interfaceOf is the number of the interface that c belongs to.
func (p *pcapng) interfaceOf(c *control.CapturedPacket) (index int, err error) {
	name := p.devices[c.Layer]
	if c.Drop != "" {
		name += " drop:" + c.Drop
	}
	if index, known := p.interfaces[name]; known {
		return index, nil
	}
	if index, err = p.head.AddInterface(p.device(name)); err == nil {
		p.interfaces[name] = index
		err = p.head.Flush() // into out, behind the packets that are there
	}
	return index, err
}

func (p *pcapng) flush() error {
	if err := p.head.Flush(); err != nil {
		return fmt.Errorf("write to the capture file: %w", err)
	}
	if err := p.out.Flush(); err != nil {
		return fmt.Errorf("write to the capture file: %w", err)
	}
	return nil
}

// padded fills b up to a multiple of 4 bytes. What is in front of it in its block has such a length.
func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

func appendOption(b []byte, code int, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(code))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return padded(append(b, value...))
}

// comment says of a packet what its bytes do not.
func comment(c *control.CapturedPacket) string {
	way := map[string]string{control.CaptureOut: "out to ", control.CaptureIn: "in from "}[c.Direction]
	parts := []string{way + printable(c.Peer)}
	if c.Peer == "" {
		parts[0] = c.Direction
	}
	if c.Segments > 1 {
		parts = append(parts, segments(c))
	}
	if c.Drop != "" {
		parts = append(parts, "dropped: "+printable(c.Drop))
	}
	if c.Partial {
		parts = append(parts, "checksum left to the device")
	}
	return strings.Join(parts, ", ")
}

// segments says what a superpacket stands for.
func segments(c *control.CapturedPacket) string {
	if c.SegmentSize == 0 {
		return fmt.Sprintf("%d packets", c.Segments)
	}
	return fmt.Sprintf("%d x %d bytes", c.Segments, c.SegmentSize)
}
