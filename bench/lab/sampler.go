package lab

import (
	"net/netip"
	"sync"
	"time"

	"parley/bench/watch"
)

// sampleEvery is the interval of samples. It is short, because memory held for a hog may be released a moment later.
const sampleEvery = 20 * time.Millisecond

// sampler follows the memory of one process, and of its sockets to certain peers.
type sampler struct {
	level int64 // RSS without the hogs
	stop  chan struct{}
	wg    sync.WaitGroup

	// The following are owned by the sampler until end has returned.
	rss                 int64 // the largest
	peakRSS, peakKernel int64 // above level, and of the sockets, when their sum was largest
	err                 error // error of the query to the kernel
}

func newSampler(pid func() int, port uint16, peers map[netip.AddrPort]bool, level int64) *sampler {
	s := &sampler{level: level, stop: make(chan struct{})}
	s.wg.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			s.sample(pid(), port, peers)
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
		}
	})
	return s
}

func (s *sampler) end() {
	close(s.stop)
	s.wg.Wait()
}

func (s *sampler) sample(pid int, port uint16, peers map[netip.AddrPort]bool) {
	_, rss, _ := watch.Process(pid)
	s.rss = max(s.rss, rss)
	if len(peers) == 0 {
		return
	}
	sockets, err := watch.Sockets(port)
	if err != nil {
		s.err = err
		return
	}
	kernel := int64(0)
	for _, k := range sockets {
		if peers[k.Peer] {
			kernel += k.Bytes
		}
	}
	if above := max(rss-s.level, 0); above+kernel > s.peakRSS+s.peakKernel {
		s.peakRSS, s.peakKernel = above, kernel
	}
}
