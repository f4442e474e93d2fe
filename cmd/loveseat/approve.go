package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/loveseat-db/loveseat/internal/cli"
	"github.com/loveseat-db/loveseat/share"
)

// answerForm is a line that answers a question with --json.
const answerForm = `{"peer":PEER,"answer":"once"|"always"|"refuse","reason":TEXT}`

// An asker asks whether to let peers in, one at a time: on the terminal, or with
// --json by events that lines on standard input answer.
type asker struct {
	r     *reporter
	turn  chan struct{} // holds one while a question is open
	lines chan string   // closed at the end of standard input
}

func (m *Main) newAsker(r *reporter) (*asker, error) {
	if f, ok := m.Stdin.(*os.File); !r.json && (!ok || !term.IsTerminal(int(f.Fd()))) {
		return nil, usageError{errors.New("--approve asks on the terminal, and there is none; with --json programs can answer")}
	}
	a := &asker{r: r, turn: make(chan struct{}, 1), lines: make(chan string)}
	go func() { // ends with standard input: reading it cannot be interrupted
		defer close(a.lines)
		for s := bufio.NewScanner(m.Stdin); s.Scan(); {
			a.lines <- s.Text()
		}
	}()
	return a, nil
}

var errNobody = errors.New("nobody is there to answer")

// approve asks about a peer, with whom we have a verification code, until there is an answer or ctx ends.
func (a *asker) approve(ctx context.Context, i share.RemoteInfo, code string) (share.Approval, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return share.Refuse, ctx.Err()
	}
	for {
		a.ask(i, code)
		select {
		case line, ok := <-a.lines:
			if !ok {
				return share.Refuse, errNobody
			}
			read := readAnswer
			if a.r.json {
				read = readJSONAnswer
			}
			if answer, err, ok := read(line, i.Peer); ok {
				return answer, err
			}
		case <-ctx.Done():
			a.r.Event("gave_up", map[string]any{"peer": i.Peer}, share.ShortID(i.Peer)+" does not wait any more.")
			return share.Refuse, ctx.Err()
		}
	}
}

func (a *asker) ask(i share.RemoteInfo, code string) {
	fields := map[string]any{"share": i.Share, "name": i.Name, "peer": i.Peer, "route": i.Route, "code": code}
	says, itself := "", "" // what a stranger wrote stands quoted, or on a line of its own that ends nothing
	if i.User != "" {
		fields["user"] = i.User
		says = " of the hub's user " + strconv.Quote(cli.Name(i.User))
	}
	if i.Info != nil {
		fields["info"] = i.Info
		itself = "\n    It says of itself: " + cli.Text(string(i.Info))
	}
	a.r.Event("asks", fields, fmt.Sprintf("Peer %s%s asks to open %q (verification code %s).%s\nLet it in? yes (once), always, no:", i.Peer, says, cli.Name(i.Name), code, itself))
}

// readAnswer reads what a person types; ok is false if that is no answer.
func readAnswer(line, _ string) (answer share.Approval, err error, ok bool) { //nolint:revive // the error is part of the answer
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes", "once":
		return share.Once, nil, true
	case "a", "always":
		return share.Always, nil, true
	case "n", "no":
		return share.Refuse, nil, true
	}
	return share.Refuse, nil, false
}

// readJSONAnswer reads a line of [answerForm]; one about another peer comes too late and is none.
func readJSONAnswer(line, peer string) (answer share.Approval, err error, ok bool) { //nolint:revive // the error is part of the answer
	var v struct{ Peer, Answer, Reason string }
	if json.Unmarshal([]byte(line), &v) != nil || v.Peer != "" && v.Peer != peer {
		return share.Refuse, nil, false //nolint:nilerr // what cannot be read is no answer
	}
	switch v.Answer {
	case "once":
		return share.Once, nil, true
	case "always":
		return share.Always, nil, true
	case "refuse":
		if v.Reason != "" {
			err = errors.New(v.Reason)
		}
		return share.Refuse, err, true
	}
	return share.Refuse, nil, false
}
