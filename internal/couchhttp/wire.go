package couchhttp

import (
	"net/http"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// WriteError answers {"error":…,"reason":…} with the error's status, for
// handlers around a [Server].
func WriteError(w http.ResponseWriter, e *couch.Error) { writeError(w, e) }

// WriteJSON answers with a JSON text, for handlers around a [Server].
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	_ = writeJSON(w, status, body) // nothing is left to tell a client that is gone
}
