package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// goSides are the Go peers of a soak.
var goSides = []string{"alice", "bob", "carol"}

// breathe keeps the load of a soak low.
func (s *soak) breathe() { time.Sleep(time.Duration(50+s.random.IntN(400)) * time.Millisecond) }

// breakSomething breaks one or two things, of different processes, and returns what mends them.
func (s *soak) breakSomething() (mend func()) {
	var mends []func()
	for _, i := range s.random.Perm(len(s.order) + 1)[:1+s.random.IntN(2)] {
		if i == len(s.order) {
			mends = append(mends, s.cutHub())
			continue
		}
		name := s.order[i]
		switch kind := s.random.IntN(3); {
		case kind == 0:
			mends = append(mends, s.hold(name))
		case kind == 1 && strings.HasPrefix(name, "share "):
			mends = append(mends, s.unshare(name))
		default:
			mends = append(mends, s.kill(name))
		}
	}
	return func() {
		for _, mend := range mends { // who holds is let go
			mend()
		}
		for _, name := range s.order { // hub, shares, those who open them
			if p := s.procs[name]; p.Proc == nil {
				p.Proc = p.start()
			}
		}
		clear(s.down)
	}
}

func (s *soak) fault(kind string) { s.faults[kind]++ }

// kill ends a process without warning.
func (s *soak) kill(name string) (mend func()) {
	s.fault("kill " + name)
	s.down[name] = true
	s.procs[name].Kill()
	s.procs[name].Proc = nil
	return func() {}
}

// unshare ends a share as Ctrl-C does.
func (s *soak) unshare(name string) (mend func()) {
	s.fault("unshare " + name)
	s.ok(s.procs[name].Stop())
	s.procs[name].Proc = nil
	return func() {}
}

// hold stops a process, which keeps its connections and says nothing, for some seconds.
func (s *soak) hold(name string) (mend func()) {
	s.fault("hold " + name)
	s.down[name] = true
	s.down[name[strings.LastIndexByte(name, ' ')+1:]] = true // it may hold the lock of its database
	p := s.procs[name]
	s.ok(p.Signal(syscall.SIGSTOP))
	release := func() { _ = p.Signal(syscall.SIGCONT) }
	s.Cleanup(release)
	return release
}

// cutHub cuts the connections to the hub, at once or for a while.
func (s *soak) cutHub() (mend func()) {
	s.fault("cut the hub's connections")
	s.proxy.cut(s.random.IntN(2) == 0)
	return func() { s.proxy.cut(false) }
}

// edit makes one to three edits at one side, or one of the same document at two sides.
func (s *soak) edit() {
	s.Helper()
	sides := slices.DeleteFunc(append(goSides[:3:3], "hub", "pouch"), func(side string) bool { return s.down[side] })
	s.random.Shuffle(len(sides), func(i, j int) { sides[i], sides[j] = sides[j], sides[i] })
	if s.random.IntN(4) == 0 {
		id := fmt.Sprintf("clash-%d", s.random.IntN(30))
		for _, side := range sides[:2] {
			s.edits++
			s.edit1(side, fmt.Sprintf(`{"_id":%q,"both":%q,"n":%d}`, id, side, s.edits))
		}
		return
	}
	for range 1 + s.random.IntN(3) {
		s.edit1(sides[0], s.anEdit(sides[0]))
	}
}

// anEdit is a document as it is written: a new one, with or without attachments, or one that others write too.
func (s *soak) anEdit(side string) string {
	s.edits++
	clash := fmt.Sprintf("clash-%d", s.random.IntN(30))
	switch n := s.random.IntN(10); {
	case n < 3:
		return fmt.Sprintf(`{"_id":%q,"%s":%d}`, clash, side, s.edits)
	case n < 4:
		return fmt.Sprintf(`{"_id":%q,"_deleted":true}`, clash)
	case n < 5:
		return fmt.Sprintf(`{"_id":%q,"n":%d,"_attachments":{"a":%s}}`, clash, s.edits, inline(bytes256))
	case n < 6 && len(s.created) > 0:
		return fmt.Sprintf(`{"_id":%q,"by":%q,"n":%d}`, s.created[s.random.IntN(len(s.created))], side, s.edits)
	}
	id := fmt.Sprintf("%s-%d", side, s.edits)
	s.created = append(s.created, id)
	switch s.random.IntN(4) {
	case 0:
		return fmt.Sprintf(`{"_id":%q,"_attachments":{"small":%s}}`, id, inline(bytes256))
	case 1:
		return fmt.Sprintf(`{"_id":%q,"_attachments":{"large":%s}}`, id, inline(strings.Repeat(id, 10_000)))
	}
	return fmt.Sprintf(`{"_id":%q,"at":%q,"n":%d}`, id, time.Now().Format(time.RFC3339), s.edits)
}

// edit1 writes a document at a side, over the winner if there is one.
func (s *soak) edit1(side, doc string) {
	s.Helper()
	switch {
	case slices.Contains(goSides, side):
		s.world.edit(side+"/notes", doc)
	case side == "pouch":
		s.pouch.do("upsert", step{"db": s.path("pouch"), "doc": json.RawMessage(doc)}, nil)
	default:
		s.editHub(doc)
	}
}

// editHub writes a document into the hub's database, unless a replication is faster.
func (s *soak) editHub(doc string) {
	s.Helper()
	var head struct {
		ID  string `json:"_id"`
		Rev string `json:"_rev"`
	}
	s.ok(json.Unmarshal([]byte(doc), &head))
	url := s.hubURL + "/notes/" + head.ID
	status, b, err := s.http("GET", url, "")
	s.ok(err)
	if status == 200 {
		s.ok(json.Unmarshal(b, &head))
		url += "?rev=" + head.Rev
	}
	status, b, err = s.http("PUT", url, doc)
	s.ok(err)
	if status/100 != 2 && status != 409 {
		s.Fatalf("PUT %s: %d %s", url, status, b)
	}
}

// rss is the memory that a process has in use, 0 if it cannot be told.
func (p *soakProc) rss() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}
