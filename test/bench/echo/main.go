// Package main sends each packet back unchanged, except that it marks it as a reply: the limit of a Go program without
// any DNS. With -batch it reads and sends up to 32 packets at a time. It prints its listen address.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"

	"golang.org/x/net/ipv4"
)

// largest is the maximum length of packets, the same as CoreDNS's.
const largest = 512

func main() {
	batch := flag.Bool("batch", false, "read and send in batches")
	flag.Parse()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.LocalAddr())
	if *batch {
		err = batches(ipv4.NewPacketConn(c))
	} else {
		err = one(c)
	}
	log.Fatal(err)
}

func one(c *net.UDPConn) error {
	b := make([]byte, largest)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		reply(b)
		c.WriteToUDPAddrPort(b[:n], from)
	}
}

func batches(c *ipv4.PacketConn) error {
	in := make([]ipv4.Message, 32)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, largest)}
	}
	out := make([]ipv4.Message, len(in))
	for {
		n, err := c.ReadBatch(in, 0)
		if err != nil {
			return err
		}
		for i := range n {
			reply(in[i].Buffers[0])
			out[i] = ipv4.Message{Buffers: [][]byte{in[i].Buffers[0][:in[i].N]}, Addr: in[i].Addr}
		}
		for sent := 0; sent < n; {
			k, err := c.WriteBatch(out[sent:n], 0)
			if err != nil {
				return err
			}
			sent += k
		}
	}
}

// reply sets QR (RFC 1035, section 4.1.1).
func reply(b []byte) { b[2] |= 1 << 7 }
