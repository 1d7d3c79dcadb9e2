package report

import (
	"fmt"
	"math"
	"strings"
)

// figure formats a value to three or four digits: 0.034, 8.52, 13.2, 350, 4012, 194.6k, 1.25M.
func figure(v float64) string {
	switch size := math.Abs(v); {
	case v == 0:
		return "0"
	case size >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case size >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 1:
		return fmt.Sprintf("%.2f", v)
	case size >= 0.001:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.1g", v)
}

// times formats a ratio: ×0.68, ×31.4, ×283.
func times(ratio float64) string {
	switch {
	case ratio >= 100:
		return fmt.Sprintf("×%.0f", ratio)
	case ratio >= 10:
		return fmt.Sprintf("×%.1f", ratio)
	}
	return fmt.Sprintf("×%.2f", ratio)
}

// spread is the least and the greatest value; nothing for a single run.
func (row Row) spread() string {
	if row.Runs < 2 {
		return ""
	}
	return figure(row.Min) + "–" + figure(row.Max)
}

// isCompared says whether a ratio of two subjects' values means anything: what was offered is
// an input, and losses are next to nothing on one side or the other.
func (row Row) isCompared() bool {
	return row.Unit != "%" && row.Unit != "segments" && !strings.HasPrefix(row.Metric, "offered")
}
