package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// coturn finds a program of the Debian package coturn, which make test installs.
func (w *world) coturn(name string, args ...string) *exec.Cmd {
	w.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		w.Fatalf("%s is not installed: run make test, or apt-get install coturn", name)
	}
	return w.command(path, args...)
}

// background runs a program until the test ends.
func (w *world) background(cmd *exec.Cmd) {
	w.Helper()
	w.ok(cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// freeUDP is a UDP port of 127.0.0.1 that nobody has at the moment.
func (w *world) freeUDP() string {
	w.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	w.ok(err)
	defer c.Close()
	return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

// coturn's client sends packets through the hub's TURN server, over UDP and TCP, with the
// credentials that the hub gives, to coturn's echo, and gets them all back.
func TestCoturnClient(t *testing.T) {
	w := newWorld(t)
	hub := w.hub("hub", "--admin", "root:secret", "--turn-udp", "127.0.0.1:0", "--turn-tcp", "127.0.0.1:0", "--turn-target", "127.0.0.0/8")
	ice := ask[struct {
		Servers []struct {
			URLs                 []string
			Username, Credential string
		} `json:"iceServers"`
	}](w, http.MethodGet, strings.Replace(hub.url, "http://", "http://root:secret@", 1)+"/_ice", "")
	echo := w.freeUDP()
	w.background(w.coturn("turnutils_peer", "-L", "127.0.0.1", "-p", echo))
	tried := 0
	for _, s := range ice.Servers {
		for _, server := range s.URLs {
			u, err := url.Parse(strings.Replace(server, "turn:", "turn://", 1))
			w.ok(err)
			args := []string{"-u", s.Username, "-w", s.Credential, "-p", u.Port(), "-e", "127.0.0.1", "-r", echo, "-n", "20", "-m", "2", "-c"}
			if u.Query().Get("transport") == "tcp" {
				args = append(args, "-t")
			}
			tried++
			r := w.run("", w.coturn("turnutils_uclient", append(args, "127.0.0.1")...))
			out := r.stdout + r.stderr
			if r.status != 0 || !strings.Contains(out, "tot_send_msgs=40, tot_recv_msgs=40") {
				t.Errorf("%s: status %d\n%s", server, r.status, out)
			}
		}
	}
	if tried != 2 {
		t.Errorf("the hub has %d TURN servers: %+v", tried, ice)
	}
}

// Peers that hide their addresses replicate through coturn, whose secret the hub shares.
func TestPeersThroughCoturn(t *testing.T) {
	w := newWorld(t)
	port := w.freeUDP()
	w.background(w.coturn("turnserver", "-n", "--listening-ip", "127.0.0.1", "--listening-port", port, "--relay-ip", "127.0.0.1",
		"--use-auth-secret", "--static-auth-secret", "shared", "--realm", "loveseat", "--allow-loopback-peers",
		"--no-cli", "--no-tls", "--no-dtls", "--log-file", w.path("turn.log"), "--simple-log", "--pidfile", w.path("turn.pid"), "--userdb", w.path("turn.db")))
	hub := w.hub("hub", "--admin", "root:secret", "--turn-server", fmt.Sprintf("turn:127.0.0.1:%s?transport=udp", port), "--turn-secret", "shared")
	signedIn := strings.Replace(hub.db, "http://", "http://root:secret@", 1)
	w.env = append(w.env, "LOVESEAT_HUB="+signedIn)
	w.edit("alice/notes", `{"_id":"a"}`, `{"_id":"b","_attachments":{"big":`+inline(strings.Repeat(bytes256, 1200))+`}}`)
	s := w.share(signedIn, "alice/notes", "--relay-only", "--relay=off")
	c := w.sync("--relay-only", "--relay=off", w.path("bob/notes"), s.Link)
	if c.Route != "relay" || c.Pulled.Written != 2 {
		t.Errorf("%+v", c)
	}
	if diff := difference(w.local("alice/notes"), w.local("bob/notes")); diff != nil {
		t.Error(diff)
	}
}
