package share

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// Who pulls from whom in a large topic: the members stand in several rings, in each in
// another order, by hash; everybody's neighbours are those beside it in each. One ring alone reaches
// everybody, and several are with near certainty a net in which a change is
// everywhere after few steps (a union of random Hamiltonian cycles: Law and
// Siu, "Distributed construction of random expander networks", INFOCOM 2003).
// All members come to the same choice by themselves, nobody has more
// neighbours than anybody else, and who comes or goes changes two links in each ring.

// maxPassedOver bounds how many members that are down a ring is closed across, on each side.
const maxPassedOver = 3

// neighbours chooses among others, which are share ids, those that self pulls from, at most
// limit of them. A neighbour that is down is kept, to be tried again, and the next one in its ring taken besides.
func neighbours(topic, self string, others []string, limit int, down func(string) bool) map[string]bool {
	chosen := make(map[string]bool, min(limit, len(others)))
	if len(others) <= limit {
		for _, id := range others {
			chosen[id] = true
		}
		return chosen
	}
	for n := range limit / 2 {
		order := ring(topic, n, append([]string{self}, others...))
		at := slices.Index(order, self)
		for _, step := range []int{1, len(order) - 1} {
			for i := range min(maxPassedOver+1, len(others)) {
				id := order[(at+(i+1)*step)%len(order)]
				chosen[id] = true
				if !down(id) {
					break
				}
			}
		}
	}
	return chosen
}

// ring puts ids into the order of a topic's n-th ring.
func ring(topic string, n int, ids []string) []string {
	place := make(map[string]string, len(ids))
	for _, id := range ids {
		h := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(n)), topic+"\x00"+id...))
		place[id] = string(h[:])
	}
	slices.SortFunc(ids, func(a, b string) int { return strings.Compare(place[a], place[b]) })
	return ids
}
