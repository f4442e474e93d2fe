// Package peeradapter connects peers by WebRTC, through a hub's relay (noise.go), or
// without a hub over any connection (Serve, Open). It is the only package that knows pion and yamux: to the others it is a [share.Transport], that is, a
// net.Listener and a dial function.
//
// # Signals
//
// Two peers negotiate a connection by signals (package share carries, signs and
// seals them; so the DTLS fingerprints in them, which pion checks against the certificates
// of the connection, are those of the peers). A session is named by who offers:
//
//	offer      {"v":1, "time":…, "sdp":…}         from who dials
//	answer     {"v":1, "sdp":…}                   or bye, if it is refused
//	candidate  {"v":1, "candidates":[…]}          both ways, any number of times
//	bye        {"v":1, "reason":…}                from who gives up
//	restart    {"v":1, "time":…, "of":SESSION, "sdp":…}   ICE restart, by who offered; without sdp the other asks for one
//	relay      {"v":1, "session":…}               meet at the hub's relay, see noise.go
//
// Offer and answer are sent before gathering ends, with the candidates found by then;
// the others follow in batches (trickle ICE, RFC 8838). There is at most one negotiation
// between two peers: a later offer (by its time, the offerer's clock in
// milliseconds) takes the place of an earlier one, and of two that cross each
// other that of the lesser address counts, which its sender sends again.
//
// # The connection
//
// One peer connection per pair of peers carries one data channel, label
// "loveseat", protocol "yamux+http/1.1", ordered and reliable, in binary messages of at
// most 64 KiB, whose borders mean nothing: together they are the byte stream of a
// yamux session (github.com/hashicorp/yamux, spec.md). Who offered is yamux's
// client. Each side may open streams; a stream is one connection of HTTP/1.1.
//
// Who closes sends yamux's "go away", waits until all is delivered, and aborts the association.
// A peer that is silent for about 13 seconds, in which its ICE is restarted, or answers no
// ping of yamux for so long while nothing else moves either, is lost: its streams
// fail, and the next dial makes a new connection. Who has nothing to send asks after a second, and then
// ever more seldom, every 15 seconds or so at last; there are no keep-alives of ICE, but those of others are answered.
package peeradapter
