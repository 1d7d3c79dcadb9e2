//go:build netns

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
)

// criClient speaks the Container Runtime Interface, as a kubelet does: gRPC on a Unix socket, that is HTTP/2 without TLS
// (doc/PROTOCOL-HTTP2.md of grpc) with messages of protobuf. It may be used by several goroutines.
type criClient struct{ http *http.Client }

func newCRIClient(socket string) *criClient {
	var http2 http.Protocols
	http2.SetUnencryptedHTTP2(true)
	return &criClient{http: &http.Client{Transport: &http.Transport{
		Protocols: &http2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (c *criClient) close() { c.http.CloseIdleConnections() }

// call calls a method of runtime.v1.RuntimeService.
func (c *criClient) call(ctx context.Context, method string, request message) (message, error) {
	const prefix = 5 // uncompressed, and the length
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request)))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cri/runtime.v1.RuntimeService/"+method, bytes.NewReader(append(body, request...)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	response, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	end := response.Trailer
	if len(end) == 0 { // an answer without a message is one header
		end = response.Header
	}
	if status := end.Get("Grpc-Status"); status != "0" {
		why, err := url.PathUnescape(end.Get("Grpc-Message"))
		if err != nil {
			why = end.Get("Grpc-Message")
		}
		return nil, fmt.Errorf("%s: code %q: %s", method, status, why)
	}
	if len(answer) < prefix {
		return nil, fmt.Errorf("%s: an answer of %d bytes", method, len(answer))
	}
	return answer[prefix:], nil
}

// message is one of protobuf (https://protobuf.dev/programming-guides/encoding). Field numbers are those of
// pkg/apis/runtime/v1/api.proto of k8s.io/cri-api.
type message []byte

const (
	varint    = 0 // wire types
	delimited = 2
)

func (m message) number(field int, value uint64) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|varint)
	return binary.AppendUvarint(m, value)
}

func (m message) embed(field int, inner message) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|delimited)
	m = binary.AppendUvarint(m, uint64(len(inner)))
	return append(m, inner...)
}

func (m message) text(field int, values ...string) message {
	for _, v := range values {
		m = m.embed(field, message(v))
	}
	return m
}

// value is a field's: one of the two, by its wire type.
type value struct {
	number uint64
	inner  message
}

// fields returns the values of a field, in order. It ends where the message does, or makes no sense.
func (m message) fields(field int) iter.Seq[value] {
	return func(yield func(value) bool) {
		for rest := m; len(rest) > 0; {
			tag, n := binary.Uvarint(rest)
			number, size := binary.Uvarint(rest[max(n, 0):])
			if n <= 0 || size <= 0 {
				return
			}
			rest = rest[n+size:]
			v := value{number: number}
			if tag&7 == delimited {
				if number > uint64(len(rest)) {
					return
				}
				v.inner, rest = rest[:number], rest[number:]
			}
			if tag>>3 == uint64(field) && !yield(v) {
				return
			}
		}
	}
}

// first returns a field's first value, zero where there is none.
func (m message) first(field int) value {
	for v := range m.fields(field) {
		return v
	}
	return value{}
}
