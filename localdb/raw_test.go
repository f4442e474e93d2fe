package localdb

import "testing"

// BenchmarkRawInsert is the ceiling: SQLite with the engine's settings and
// nothing around it. One round inserts 100,000 rows of 1 KB, 1,000 a transaction.
func BenchmarkRawInsert(b *testing.B) {
	for b.Loop() {
		r := openRaw(b)
		for range 100 {
			r.batch(b)
		}
		r.c.Close()
	}
	b.ReportMetric(float64(b.N*100*benchBatch)/b.Elapsed().Seconds(), "rows/s")
}
