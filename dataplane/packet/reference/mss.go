package reference

import (
	"bytes"
	"encoding/binary"
)

// ClampMSS is p with the maximum segment size of a SYN such that packets of at most
// mtu bytes result. A checksum that was right is right again, any other is left.
func ClampMSS(p []byte, mtu int, partial bool) []byte {
	l := Read(p)
	headers, ok := headersOf(p)
	if l.Protocol != 6 || l.Fragment || !ok || p[l.Transport+13]&0x02 == 0 {
		return p
	}
	limit := mtu - 40
	if l.Version == 6 {
		limit = mtu - 60
	}
	right := bytes.Clone(p)
	Checksum(right, false)
	wasRight := sameNumber(right[l.Transport+16:], p[l.Transport+16:])

	clamped := bytes.Clone(p)
	for _, at := range mssValues(p[:headers], l.Transport+20) {
		if limit > 0 && int(binary.BigEndian.Uint16(p[at:])) > limit {
			binary.BigEndian.PutUint16(clamped[at:], uint16(limit))
		}
	}
	if !partial && wasRight && !bytes.Equal(clamped, p) {
		Checksum(clamped, false)
	}
	return clamped
}

// mssValues is where the values of the MSS options are, of those that start at byte
// at of the headers, as far as these can be read.
func mssValues(headers []byte, at int) (values []int) {
	for at < len(headers) && headers[at] != 0 {
		if headers[at] == 1 {
			at++
			continue
		}
		if at+1 == len(headers) || headers[at+1] < 2 || at+int(headers[at+1]) > len(headers) {
			return values
		}
		if headers[at] == 2 && headers[at+1] == 4 {
			values = append(values, at+2)
		}
		at += int(headers[at+1])
	}
	return values
}
