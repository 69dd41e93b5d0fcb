// The program of the pods that tests run. Without arguments it waits, as the pods' own holder does.
// With any it stands in for an engine (it is /bin/python3 in its image): it ends at once with the
// words and the status of TEST_WORDS and TEST_STATUS where they are set, and else answers HTTP on
// port 8000: /health, /stream (?count= events, one every 50 ms or ?pause_us=), /echo (the body and
// the key), and, as vLLM would, /v1/models and /v1/chat/completions, which want the key of VLLM_API_KEY. It logs as
// vLLM does while it loads, for TEST_LOAD_MS; an answer takes TEST_PAUSE_MS between its words.
// TEST_MEMORY_MIB is taken at the start; with TEST_UNHEALTHY, /health never says that all is well.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
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
	taken := take(os.Getenv("TEST_MEMORY_MIB"))
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if os.Getenv("TEST_UNHEALTHY") != "" {
			http.Error(w, fmt.Sprintf("not yet, with %d bytes", len(taken)), http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		count, _ := strconv.Atoi(r.URL.Query().Get("count"))
		pause := 50 * time.Millisecond
		if asked := r.URL.Query().Get("pause_us"); asked != "" {
			microseconds, _ := strconv.Atoi(asked)
			pause = time.Duration(microseconds) * time.Microsecond
		}
		for i := 0; i < count; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			time.Sleep(pause)
		}
	})
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s\n", r.Header.Get("Authorization"))
		io.Copy(w, r.Body)
	})
	http.HandleFunc("/v1/models", guarded(models))
	http.HandleFunc("/v1/chat/completions", guarded(chat))
	load()
	fmt.Println("Listening on port 8000")
	if err := http.ListenAndServe(":8000", nil); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func take(mebibytes string) []byte {
	count, _ := strconv.Atoi(mebibytes)
	memory := make([]byte, count<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	return memory
}

func milliseconds(variable string) time.Duration {
	count, _ := strconv.Atoi(os.Getenv(variable))
	return time.Duration(count) * time.Millisecond
}

func load() {
	total := milliseconds("TEST_LOAD_MS")
	if total == 0 {
		return
	}
	lines := []string{
		"INFO 11-25 12:00:00 [model.py:1] Using max model len 8192",
		"INFO 11-25 12:00:01 [gpu_model_runner.py:1] Starting to load model /models/it...",
		"Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.00s/it]",
		"Loading safetensors checkpoint shards: 100% Completed | 2/2 [00:02<00:00,  1.00s/it]",
		"INFO 11-25 12:00:03 [default_loader.py:1] Loading weights took 2.00 seconds",
		"INFO 11-25 12:00:04 [backends.py:1] torch.compile took 1.00 s in total",
		"INFO 11-25 12:00:05 [api_server.py:1] Starting vLLM server on http://0.0.0.0:8000",
	}
	for _, line := range lines {
		fmt.Println(line)
		time.Sleep(total / time.Duration(len(lines)))
	}
}

func guarded(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+os.Getenv("VLLM_API_KEY") {
			http.Error(w, `{"error":"Unauthorized"}`, http.StatusUnauthorized)
			return
		}
		handler(w, r)
	}
}

func models(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, `{"object":"list","data":[{"id":"it","max_model_len":8192}]}`)
}

func chat(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(choices, usage string) {
		chunk := `{"id":"1","object":"chat.completion.chunk","model":"it","choices":[%s],"usage":%s}`
		fmt.Fprintf(w, "data: "+chunk+"\n\n", choices, usage)
		w.(http.Flusher).Flush()
	}
	words := strings.SplitAfter("The capital of France is Paris.", " ")
	for _, word := range words {
		event(fmt.Sprintf(`{"index":0,"delta":{"content":%q},"finish_reason":null}`, word), "null")
		time.Sleep(milliseconds("TEST_PAUSE_MS"))
	}
	event(`{"index":0,"delta":{},"finish_reason":"stop"}`, "null")
	event("", fmt.Sprintf(`{"prompt_tokens":5,"completion_tokens":%d,"total_tokens":12}`, len(words)))
	fmt.Fprint(w, "data: [DONE]\n\n")
}
