package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// serve answers each HTTP request with the name of the pod, which identifies the backend, and the requested host. It
// runs until the process ends.
func serve(address string) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	s := &http.Server{Addr: address, ReadHeaderTimeout: timeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, pod, "answers for", r.Host)
	})}
	return s.ListenAndServe()
}

// get prints the status and body of a URL.
func get(url string) error {
	res, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	fmt.Print(res.StatusCode, " ")
	_, err = io.Copy(os.Stdout, io.LimitReader(res.Body, 1<<16))
	return err
}
