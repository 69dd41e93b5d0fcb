// The program of the pods that tests run. Without arguments it waits, as the pods' own holder does.
// With any it stands in for an engine (it is /bin/python3 in its image): it ends at once with the
// words and the status of TEST_WORDS and TEST_STATUS where they are set, and else answers HTTP on
// port 8000: /health, /stream (?count= events, one every 50 ms), /echo (the body and the key).
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	if words := os.Getenv("TEST_WORDS"); words != "" {
		fmt.Fprintln(os.Stderr, words)
		status, _ := strconv.Atoi(os.Getenv("TEST_STATUS"))
		os.Exit(status)
	}
	if len(os.Args) > 1 {
		go serve()
	}
	<-ended
}

func serve() {
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {})
	http.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		count, _ := strconv.Atoi(r.URL.Query().Get("count"))
		for i := 0; i < count; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s\n", r.Header.Get("Authorization"))
		io.Copy(w, r.Body)
	})
	fmt.Println("Listening on port 8000")
	if err := http.ListenAndServe(":8000", nil); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
