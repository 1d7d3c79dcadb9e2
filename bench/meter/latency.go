package meter

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// Latency is the result of a ping-pong: half of the round trip time, in microseconds.
type Latency struct{ P50, P99, P999 float64 }

// Immutable. A line of `sockperf ping-pong`, such as "---> percentile 99.900 =   99.428".
var percentileLine = regexp.MustCompile(`---> percentile ([0-9.]+) = *([0-9.]+)`)

// ParseSockperf reads the output of `sockperf ping-pong`.
func ParseSockperf(out string) (Latency, error) {
	var l Latency
	wanted := map[string]*float64{"50.000": &l.P50, "99.000": &l.P99, "99.900": &l.P999}
	for _, match := range percentileLine.FindAllStringSubmatch(out, -1) {
		target, found := wanted[match[1]]
		if !found {
			continue
		}
		value, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			return Latency{}, fmt.Errorf("read the output of sockperf: percentile %s: %w", match[1], err)
		}
		*target = value
	}
	if !(l.P50 > 0 && l.P50 <= l.P99 && l.P99 <= l.P999) {
		return Latency{}, errors.New("read the output of sockperf: it has no percentiles 50, 99 and 99.9")
	}
	return l, nil
}

// Immutable. Lines of ab (ApacheBench).
var (
	connectionsLine = regexp.MustCompile(`(?m)^Requests per second: +([0-9.]+) \[#/sec\]`)
	failedLine      = regexp.MustCompile(`(?m)^(Failed requests|Non-2xx responses): +([0-9]+)`)
)

// ParseAB reads the output of ab: connections a second, each with one request and one answer.
func ParseAB(out string) (connections float64, err error) {
	for _, match := range failedLine.FindAllStringSubmatch(out, -1) {
		if match[2] != "0" {
			return 0, fmt.Errorf("ab: %s: %s", match[1], match[2])
		}
	}
	match := connectionsLine.FindStringSubmatch(out)
	if match == nil {
		return 0, errors.New("read the output of ab: it has no line \"Requests per second\"")
	}
	connections, err = strconv.ParseFloat(match[1], 64)
	if err == nil && !(connections > 0) {
		err = errors.New("no request was answered")
	}
	if err != nil {
		return 0, fmt.Errorf("read the output of ab: %w", err)
	}
	return connections, nil
}
