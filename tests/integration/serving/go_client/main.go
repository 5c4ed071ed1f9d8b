// A client built on grpc-go that needs no generated code: messages are bytes.
//
// It reads lines of JSON, does what each says, and writes a line of JSON about it.
// With "load" it calls without any retry until the next line comes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error) {
	return *v.(*[]byte), nil
}
func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

var _ encoding.Codec = bytesCodec{}

// What to do. Messages travel as base64, as encoding/json has it.
type order struct {
	Do        string            `json:"do"` // unary, stream, load
	Method    string            `json:"method"`
	Message   []byte            `json:"message"`
	Count     int               `json:"count"`
	TimeoutMs int               `json:"timeout_ms"`
	CancelMs  int               `json:"cancel_ms"`
	Gzip      bool              `json:"gzip"`
	Metadata  map[string]string `json:"metadata"`
}

// What came of it: the codes of all calls, counted, and the replies of those that went well.
type report struct {
	Codes   map[string]int `json:"codes"`
	Replies [][]byte       `json:"replies"`
	Error   string         `json:"error"`
}

func (r *report) note(err error, reply []byte) {
	code := status.Code(err)
	r.Codes[code.String()]++
	if code == codes.OK {
		if len(r.Replies) < 1000 {
			r.Replies = append(r.Replies, reply)
		}
	} else {
		r.Error = err.Error()
	}
}

func (o order) context() (context.Context, context.CancelFunc) {
	timeout := time.Duration(o.TimeoutMs) * time.Millisecond
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	for key, value := range o.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	if o.CancelMs > 0 {
		time.AfterFunc(time.Duration(o.CancelMs)*time.Millisecond, cancel)
	}
	return ctx, cancel
}

func (o order) options() []grpc.CallOption {
	if o.Gzip {
		return []grpc.CallOption{grpc.UseCompressor("gzip")}
	}
	return nil
}

func (o order) call(conn *grpc.ClientConn) ([]byte, error) {
	ctx, cancel := o.context()
	defer cancel()
	var reply []byte
	err := conn.Invoke(ctx, o.Method, &o.Message, &reply, o.options()...)
	return reply, err
}

// Count calls at once, over one connection.
func unary(conn *grpc.ClientConn, o order) report {
	found := report{Codes: map[string]int{}}
	var lock sync.Mutex
	var all sync.WaitGroup
	for range max(1, o.Count) {
		all.Add(1)
		go func() {
			defer all.Done()
			reply, err := o.call(conn)
			lock.Lock()
			defer lock.Unlock()
			found.note(err, reply)
		}()
	}
	all.Wait()
	return found
}

// One stream: Count messages, then a half-close, then all replies.
func stream(conn *grpc.ClientConn, o order) report {
	found := report{Codes: map[string]int{}}
	ctx, cancel := o.context()
	defer cancel()
	kind := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	opened, err := conn.NewStream(ctx, kind, o.Method, o.options()...)
	if err != nil {
		found.note(err, nil)
		return found
	}
	go func() {
		for range o.Count {
			if opened.SendMsg(&o.Message) != nil {
				return
			}
		}
		opened.CloseSend()
	}()
	for {
		var reply []byte
		err := opened.RecvMsg(&reply)
		if err == io.EOF {
			return found
		}
		found.note(err, reply)
		if err != nil {
			return found
		}
	}
}

// Calls one after the other on Count connections' worth of goroutines until told to stop.
func load(conn *grpc.ClientConn, o order, stop <-chan struct{}) report {
	found := report{Codes: map[string]int{}}
	var lock sync.Mutex
	var all sync.WaitGroup
	for range max(1, o.Count) {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				_, err := o.call(conn)
				lock.Lock()
				found.Codes[status.Code(err).String()]++
				if err != nil {
					found.Error = err.Error()
				}
				lock.Unlock()
			}
		}()
	}
	all.Wait()
	return found
}

func main() {
	conn, err := grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer conn.Close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		switch o.Do {
		case "unary":
			out.Encode(unary(conn, o))
		case "stream":
			out.Encode(stream(conn, o))
		case "load":
			stop, done := make(chan struct{}), make(chan report)
			go func() { done <- load(conn, o, stop) }()
			lines.Scan()
			close(stop)
			out.Encode(<-done)
		}
	}
}
