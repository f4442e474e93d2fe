package main

import "runtime/debug"

// tuneMemory trades memory for speed, unless the environment says how: a replication has little alive and makes much
// garbage, so collecting it less often saves a tenth to a sixth of the time for some 30 MiB. The limit keeps a large heap as small as ever.
func tuneMemory(getenv func(string) string) {
	if getenv("GOGC") == "" && getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(250)
		debug.SetMemoryLimit(256 << 20)
	}
}
