package peeradapter

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// loggerFactory gives pion's packages loggers that write to slog. What they call
// debug and trace happens for every packet and is left out.
type loggerFactory struct{ log *slog.Logger }

func (f loggerFactory) NewLogger(scope string) logging.LeveledLogger {
	return &pionLogger{f.log.With("pion", scope)}
}

type pionLogger struct{ log *slog.Logger }

func (l *pionLogger) put(level slog.Level, format string, args ...any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, args...))
	}
}

func (l *pionLogger) Trace(string)          {}
func (l *pionLogger) Tracef(string, ...any) {}
func (l *pionLogger) Debug(string)          {}
func (l *pionLogger) Debugf(string, ...any) {}
func (l *pionLogger) Info(string)           {}
func (l *pionLogger) Infof(string, ...any)  {}

// What pion warns of (a socket of a dead peer, a candidate that leads nowhere)
// is ordinary life on a network, and what matters of it reaches the caller as an error.
func (l *pionLogger) Warn(msg string)              { l.put(slog.LevelDebug, "%s", msg) }
func (l *pionLogger) Warnf(f string, args ...any)  { l.put(slog.LevelDebug, f, args...) }
func (l *pionLogger) Error(msg string)             { l.put(slog.LevelDebug, "%s", msg) }
func (l *pionLogger) Errorf(f string, args ...any) { l.put(slog.LevelDebug, f, args...) }
