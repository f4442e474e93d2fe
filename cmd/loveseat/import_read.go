package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// readDocs calls fn with each document of a JSON array, of concatenated or
// newline-delimited JSON, or of the member "docs" of one object.
func readDocs(r io.Reader, fn func(jsontext.Value) error) error {
	dec := jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true))
	for {
		var err error
		switch dec.PeekKind() {
		case '[':
			err = readArray(dec, fn)
		case '{':
			err = readObject(dec, fn)
		default:
			var v jsontext.Value
			if v, err = dec.ReadValue(); err == nil {
				return fmt.Errorf("at byte %d: a document must be a JSON object, not %.20s", dec.InputOffset(), v)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func readArray(dec *jsontext.Decoder, fn func(jsontext.Value) error) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != ']' {
		v, err := dec.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return noEOF(err)
}

// readObject reads one document, or {"docs": […]} without holding the array.
func readObject(dec *jsontext.Decoder, fn func(jsontext.Value) error) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	doc := jsontext.Value("{")
	wrapper := false
	for dec.PeekKind() != '}' {
		name, err := dec.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		name = bytes.Clone(name)
		if string(name) == `"docs"` && dec.PeekKind() == '[' {
			wrapper = true
			if err := readArray(dec, fn); err != nil {
				return err
			}
			continue
		}
		v, err := dec.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		if len(doc) > 1 {
			doc = append(doc, ',')
		}
		doc = append(append(append(doc, name...), ':'), v...)
	}
	if _, err := dec.ReadToken(); err != nil {
		return noEOF(err)
	}
	if wrapper {
		return nil
	}
	return fn(append(doc, '}'))
}

// noEOF keeps an end inside a value from being taken for the end of the file.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
