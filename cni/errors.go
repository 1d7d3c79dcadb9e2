package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// Codes of errors: below 100 the specification's, from there on weft's own.
const (
	codeUnknown     = types.ErrUnknownContainer            // 3: no such attachment
	codeEnvironment = types.ErrInvalidEnvironmentVariables // 4: CNI_ARGS, CNI_NETNS or the like makes no sense
	codeIO          = types.ErrIOFailure                   // 5: the record could not be read or written
	codeDecoding    = types.ErrDecodingFailure             // 6: no JSON, or a field of another type
	codeConfig      = types.ErrInvalidNetworkConfig        // 7: the network configuration makes no sense
	codeTryAgain    = types.ErrTryAgainLater               // 11: weftd does not run, or is not ready
	codeUnavailable = types.ErrPluginNotAvailable          // 50: STATUS: no addresses for new pods
	codeLimited     = types.ErrLimitedConnectivity         // 51: STATUS: weftd carries no packets

	codeExists    = uint(100) // the container has that interface already
	codeExhausted = uint(101) // no address is free
	codeTaken     = uint(102) // a wanted address cannot be had
	codeKernel    = uint(103) // the kernel refused
	codeBroken    = uint(104) // CHECK found something wrong
)

// Error is an error with its code. Its text is that of what it wraps.
type Error struct {
	Code uint
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// fault gives err a code; nil stays nil.
func fault(code uint, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Err: err}
}

// Code returns the CNI's code of an error that a function of this package has returned.
func Code(err error) uint {
	var coded *Error
	if errors.As(err, &coded) {
		return coded.Code
	}
	return types.ErrInternal
}

// joined makes one line of what errs are, nil left aside. It has the code of the first.
func joined(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	lines := make([]string, len(errs))
	for i, err := range errs {
		lines[i] = err.Error()
	}
	return fault(Code(errs[0]), errors.New(strings.Join(lines, "; ")))
}

// storeFault gives an error of the store its code.
func storeFault(err error) error {
	return known(err, codeIO, []meaning{
		{ipam.ErrExists, codeExists},
		{ipam.ErrExhausted, codeExhausted},
		{ipam.ErrTaken, codeTaken},
		{ipam.ErrOutside, codeTaken},
		{ipam.ErrReserved, codeTaken},
		{ipam.ErrTooMany, codeConfig},
		{context.DeadlineExceeded, codeTryAgain}, // of the wait for the lock
	})
}

// kernelFault gives an error of the kernel its code.
func kernelFault(err error) error {
	if errors.Is(err, wiring.ErrNamespace) {
		return fault(codeEnvironment, fmt.Errorf("CNI_NETNS: %w", err))
	}
	return known(err, codeKernel, []meaning{{wiring.ErrExists, codeExists}})
}

// keyFault gives the error of a key its code.
func keyFault(err error) error {
	return fault(codeEnvironment, fmt.Errorf("CNI_CONTAINERID, CNI_IFNAME: %w", err))
}

// meaning is the code of one error of another package.
type meaning struct {
	err  error
	code uint
}

func known(err error, otherwise uint, meanings []meaning) error {
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return fault(m.code, err)
		}
	}
	return fault(otherwise, err)
}
