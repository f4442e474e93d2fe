//go:build race

package localdb

const raceOn = true
