package status

import (
	"cmp"
	"slices"
	"strings"
)

// maxNear is the number of near misses that are named.
const maxNear = 3

// nearest returns the names in all that are close to a name, the nearest first: at most two steps away, and one for
// names of three letters or fewer. A step inserts, deletes or replaces a letter, or swaps two adjacent ones.
func nearest(name string, all []string) []string {
	type miss struct {
		name  string
		steps int
	}
	most := 2
	if len(name) <= 3 {
		most = 1
	}
	var near []miss
	for _, other := range all {
		if steps := distance(name, other, most); steps > 0 && steps <= most {
			near = append(near, miss{other, steps})
		}
	}
	slices.SortFunc(near, func(a, b miss) int { return cmp.Or(cmp.Compare(a.steps, b.steps), strings.Compare(a.name, b.name)) })
	var found []string
	for _, m := range near {
		if !slices.Contains(found, m.name) && len(found) < maxNear {
			found = append(found, m.name)
		}
	}
	return found
}

// distance returns the number of steps from a to b, or any number above most if there are more. It is the optimal
// string alignment distance.
func distance(a, b string, most int) int {
	if max(len(a)-len(b), len(b)-len(a)) > most {
		return most + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			step := 1
			if a[i-1] == b[j-1] {
				step = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+step)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > most {
			return most + 1
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
