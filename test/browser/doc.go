// Package browser looks at the status page with a real browser, Chromium, while a server has trouble with its real API server.
// The screenshots are in test/bin/screenshots afterwards.
package browser
