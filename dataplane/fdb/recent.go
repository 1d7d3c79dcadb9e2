package fdb

import "hash/maphash"

// recent holds values by key, as many as fit, and forgets the one that was touched least
// recently. It is set-associative as [Table] is, for the same reason, and not safe for
// concurrent use. Its keys hold no pointers.
type recent[K comparable, V any] struct {
	seed maphash.Seed
	sets [][ways]item[K, V]
}

type item[K comparable, V any] struct {
	key   K
	value V
	last  uint32
	taken bool
}

// newRecent has room for entries values, in twice as many slots.
func newRecent[K comparable, V any](entries int) *recent[K, V] {
	n := max(1, (2*entries+ways-1)/ways)
	return &recent[K, V]{seed: maphash.MakeSeed(), sets: make([][ways]item[K, V], n)}
}

func (r *recent[K, V]) set(key K) *[ways]item[K, V] {
	return &r.sets[maphash.Comparable(r.seed, key)%uint64(len(r.sets))]
}

// find is the item of key, or nil.
func (r *recent[K, V]) find(key K) *item[K, V] {
	s := r.set(key)
	for i := range s {
		if s[i].taken && s[i].key == key {
			return &s[i]
		}
	}
	return nil
}

// touch is the item of key, touched at now. Its value is the zero value where it is new, which
// may cost another one its place, or was not touched for more than maxAge seconds.
func (r *recent[K, V]) touch(key K, now, maxAge uint32) *item[K, V] {
	i := r.find(key)
	if i == nil {
		i = oldest(r.set(key), now)
	}
	if !i.taken || i.key != key || age(i.last, now) > maxAge {
		*i = item[K, V]{key: key, taken: true}
	}
	i.last = now
	return i
}

// oldest is a free item, else the one that was touched least recently.
func oldest[K comparable, V any](s *[ways]item[K, V], now uint32) *item[K, V] {
	best := &s[0]
	for i := range s {
		if !s[i].taken {
			return &s[i]
		}
		if age(s[i].last, now) > age(best.last, now) {
			best = &s[i]
		}
	}
	return best
}

// all calls do for the items that were touched within maxAge seconds, in no order.
func (r *recent[K, V]) all(now, maxAge uint32, do func(*item[K, V])) {
	for s := range r.sets {
		for i := range r.sets[s] {
			if it := &r.sets[s][i]; it.taken && age(it.last, now) <= maxAge {
				do(it)
			}
		}
	}
}
