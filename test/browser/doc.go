// Package browser opens the status page in a real browser, Chromium, while a server has problems with its real API
// server. The screenshots are in test/bin/screenshots afterwards.
package browser
