package packet

// IPv4 options (RFC 791 section 3.1) and TCP options (RFC 9293 section 3.1) are laid
// out alike: these two are one byte each, all others say their length in the second.
const (
	endOfOptions = 0
	noOperation  = 1
)

// optionLen is the length in bytes of the first of the options, and 0 where the list
// ends or is malformed.
func optionLen(options []byte) int {
	if len(options) == 0 || options[0] == endOfOptions {
		return 0
	}
	if options[0] == noOperation {
		return 1
	}
	if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
		return 0
	}
	return int(options[1])
}
