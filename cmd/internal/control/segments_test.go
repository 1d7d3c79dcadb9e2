package control

import "testing"

func TestFindSegment(t *testing.T) {
	l := SegmentList{Segments: []Segment{{Name: "office", VNI: 100}, {Name: "lab", VNI: 101}}}
	if s, err := l.Find("lab"); err != nil || s.VNI != 101 {
		t.Errorf("got %+v, %v", s, err)
	}
	for name, want := range map[string]string{
		"ofice": `this node has no segment "ofice"; did you mean office?`,
		"attic": "this node has no segment \"attic\"; `weft segments` lists them all",
	} {
		if _, err := l.Find(name); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	want := "this node has no layer-2 segments; the key `segments` of the configuration makes them"
	if _, err := (SegmentList{}).Find("lab"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
