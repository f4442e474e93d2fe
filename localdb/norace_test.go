//go:build !race

package localdb

const raceOn = false
