// Package meter reads what the programs that measure say (iperf3, sockperf, ab) and
// what the kernel says of the processor time that went into it.
package meter

import (
	"encoding/json"
	"errors"
	"fmt"
)

// iperfOutput is what `iperf3 --client --json` prints, as far as it is used here. The sums of
// sent are the client's, those of received are the server's, told to the client at the end.
type iperfOutput struct {
	Error string `json:"error"`

	Intervals []struct {
		Sum     iperfSum `json:"sum"`
		Reverse iperfSum `json:"sum_bidir_reverse"`
	} `json:"intervals"`

	End struct {
		Sent            iperfSum `json:"sum_sent"`
		Received        iperfSum `json:"sum_received"`
		ReverseSent     iperfSum `json:"sum_sent_bidir_reverse"`
		ReverseReceived iperfSum `json:"sum_received_bidir_reverse"`
	} `json:"end"`
}

type iperfSum struct {
	Seconds       float64 `json:"seconds"`
	Bytes         float64 `json:"bytes"`
	BitsPerSecond float64 `json:"bits_per_second"`
	Retransmits   float64 `json:"retransmits"`
	Packets       float64 `json:"packets"`
	Lost          float64 `json:"lost_packets"`
}

// TCP is the result of a TCP test of all streams, both directions added up.
type TCP struct {
	Gbps        float64 // payload received, in 10^9 bits a second, without the omitted start
	Retransmits float64
	Bytes       float64 // payload of the whole test, the omitted start included
}

// ParseTCP reads the output of `iperf3 --client --json` after a TCP test.
func ParseTCP(out string) (TCP, error) {
	o, err := parseIperf(out)
	if err != nil {
		return TCP{}, err
	}
	result := TCP{
		Gbps:        (o.End.Received.BitsPerSecond + o.End.ReverseReceived.BitsPerSecond) / 1e9,
		Retransmits: o.End.Sent.Retransmits + o.End.ReverseSent.Retransmits,
	}
	for _, interval := range o.Intervals {
		result.Bytes += interval.Sum.Bytes + interval.Reverse.Bytes
	}
	if !(result.Gbps > 0) || !(result.Bytes > 0) {
		return TCP{}, errors.New("iperf3 says that nothing arrived")
	}
	return result, nil
}

// UDP is the result of a UDP test: packets a second, and what became of them.
type UDP struct {
	Offered  float64 // sent by the client
	Received float64 // received by the server
	Loss     float64 // share of the sent packets that was not received, 0 to 1
}

// ParseUDP reads the output of `iperf3 --client --udp --json`.
func ParseUDP(out string) (UDP, error) {
	o, err := parseIperf(out)
	if err != nil {
		return UDP{}, err
	}
	// What the server calls lost are gaps before the last packet it got. What was lost after
	// that shows only in the difference to what the client sent.
	sent, received := o.End.Sent, o.End.Received
	arrived := received.Packets - received.Lost
	if !(sent.Packets > 0) || !(sent.Seconds > 0) {
		return UDP{}, errors.New("iperf3 says that nothing was sent")
	}
	if !(arrived >= 0) || !(received.Seconds > 0) {
		return UDP{}, fmt.Errorf("iperf3 says that of %v packets %v were lost in %v s", received.Packets, received.Lost, received.Seconds)
	}
	return UDP{
		Offered:  sent.Packets / sent.Seconds,
		Received: arrived / received.Seconds,
		Loss:     max(0, 1-arrived/sent.Packets),
	}, nil
}

func parseIperf(out string) (o iperfOutput, err error) {
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		return o, fmt.Errorf("read the output of iperf3: %w", err)
	}
	if o.Error != "" {
		return o, fmt.Errorf("iperf3: %s", o.Error)
	}
	return o, nil
}

// IperfError returns what `iperf3 --json` gives as the reason of a failure, or nothing.
func IperfError(out string) string {
	var o iperfOutput
	if json.Unmarshal([]byte(out), &o) != nil {
		return ""
	}
	return o.Error
}
