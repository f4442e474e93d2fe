//go:build race

package replicate_test

func init() { raceEnabled = true }
