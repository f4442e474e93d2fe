package share

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A feed follows the hub's changes: one subscription for all that a process
// wants to know. It ends with its context only: after an error it reads what it
// may have missed, and goes on.
type feed struct {
	hub     couch.DB
	log     *slog.Logger
	dir     *directory
	mailbox *mailbox
	since   couch.Seq
}

const (
	feedRetryMin = 250 * time.Millisecond
	feedRetryMax = 30 * time.Second
)

// list reads the hub's shares, and where to follow its changes from. Changes
// made while it reads come again through the feed.
func (f *feed) list(ctx context.Context) error {
	info, err := f.hub.Info(ctx)
	if err != nil {
		return err
	}
	if err := listShares(ctx, f.hub, f.dir); err != nil {
		return err
	}
	// The feed goes on where it broke off, so that no signal is lost; from the
	// beginning if the hub has not come so far: it was made anew or restored.
	if f.since == "" {
		f.since = info.UpdateSeq
	} else if number(info.UpdateSeq) < number(f.since) {
		f.since = "0"
	}
	return nil
}

var errMadeAnew = errors.New("the hub's sequences start over")

// number is the number that sequences begin with in all implementations; 0 if there is none.
func number(s couch.Seq) (n int64) {
	digits := 0
	for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
		digits++
	}
	n, _ = strconv.ParseInt(string(s[:digits]), 10, 64)
	return n
}

// listShares makes the directory agree with the hub.
func listShares(ctx context.Context, hub couch.DB, dir *directory) error {
	l := dir.beginListing()
	dir.mu.Lock()
	dir.omitted = 0
	dir.mu.Unlock()
	if err := eachDoc(ctx, hub, shareDocPrefix, l.add); err != nil {
		l.cancel()
		return err
	}
	l.endAll()
	return nil
}

// run follows the feed until ctx ends. list has been called.
func (f *feed) run(ctx context.Context) {
	wait := feedRetryMin
	for {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			wait = feedRetryMin
			continue
		}
		f.log.Warn("the hub's changes feed broke off", "err", err, "retry_in", wait)
		for {
			if !pause(ctx, max(jitter(wait), couch.RetryAfter(err))) {
				return
			}
			wait = min(2*wait, feedRetryMax)
			if err = f.list(ctx); err == nil {
				break
			}
			f.log.Warn("the hub does not answer", "err", err, "retry_in", wait)
		}
	}
}

// follow reads changes once: what there is, or the next ones.
func (f *feed) follow(ctx context.Context) error {
	o := couch.ChangesOptions{Since: f.since, Feed: couch.FeedLongpoll, IncludeDocs: true}
	began, rows := time.Now(), 0
	result, err := f.hub.Changes(ctx, o, func(c *couch.Change) error {
		if rows++; c.Seq != "" && number(c.Seq) < number(f.since) {
			return errMadeAnew
		}
		f.change(c)
		if c.Seq != "" {
			f.since = c.Seq
		}
		return nil
	})
	if err != nil {
		return err
	}
	if result.LastSeq != "" {
		f.since = result.LastSeq
	}
	if rows == 0 && time.Since(began) < time.Second {
		pause(ctx, time.Second) // a server that does not wait must not be hammered
	}
	return nil
}

func (f *feed) change(c *couch.Change) {
	switch {
	case strings.HasPrefix(c.ID, shareDocPrefix):
		doc := c.Doc
		if c.Deleted {
			doc = nil
		} else if doc == nil {
			return // asked for and not given: the next listing has it
		}
		f.dir.apply(c.ID, doc)
	case strings.HasPrefix(c.ID, signalDocPrefix) && !c.Deleted && c.Doc != nil:
		f.mailbox.apply(c.Doc)
	}
}
