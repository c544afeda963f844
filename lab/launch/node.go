package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Role is what a node does; its text is the name of its binary.
type Role string

// The roles of a cluster.
const (
	Chat   Role = "chatnode"
	Status Role = "statusnode"
	Gate   Role = "gatenode"
)

// Node is one node process. Its addresses stay the same over restarts.
type Node struct {
	*Proc
	role            Role
	addr, rpc, ops  port
	more            map[string]port // of a chat node, by their keys in its file
	configPath      string
	readyHTTPClient *http.Client
}

// Role is what the node does.
func (n *Node) Role() Role { return n.role }

// Addr is host:port of what the node is there for: a chat node's TCP port for clients, a status node's RPC port, a
// gate's HTTP port.
func (n *Node) Addr() string { return n.addr.Addr() }

// RPCAddr is host:port of the RPC port: of a chat node the one for its peers, of a gate that of its VarifyService, of a
// status node Addr.
func (n *Node) RPCAddr() string {
	if n.role == Status {
		return n.Addr()
	}
	return n.rpc.Addr()
}

// OpsAddr is host:port of the operations listener: /metrics, /healthz, /readyz, /debug/pprof.
func (n *Node) OpsAddr() string { return n.ops.Addr() }

// ConfigPath is the INI file the node was started with. It is read again by Restart, so a test may change it before.
func (n *Node) ConfigPath() string { return n.configPath }

// newNode takes the ports of a node and writes its configuration; it starts nothing.
func (c *Cluster) newNode(role Role, index int, o *Options) (*Node, error) {
	name := map[Role]string{Chat: "chat", Status: "status", Gate: "gate"}[role] + strconv.Itoa(index+1)
	n := &Node{role: role, readyHTTPClient: c.http}
	for _, p := range []*port{&n.addr, &n.rpc, &n.ops} {
		taken, err := takePort()
		if err != nil {
			return nil, err
		}
		c.ports = append(c.ports, taken)
		*p = taken
	}
	if role == Chat {
		n.more = map[string]port{}
		for key, wanted := range map[string]bool{"WSPort": o.WebSocket, "TLSPort": o.Cert != "", "WSSPort": o.WebSocket && o.Cert != ""} {
			if !wanted {
				continue
			}
			taken, err := takePort()
			if err != nil {
				return nil, err
			}
			c.ports = append(c.ports, taken)
			n.more[key] = taken
		}
	}
	n.configPath = filepath.Join(c.dir, name+".ini")
	command := []string{filepath.Join(c.bin, string(role)), "--config", n.configPath}
	if o.Through != nil {
		command = append(slices.Clone(o.Through(n, index)), command...)
	}
	n.Proc = newProc(name, command[0], filepath.Join(c.dir, name+".log"), n.answersReady, command[1:]...)
	n.Proc.env = append(n.Proc.env, o.Env...)
	file := c.config(n, name, index, o)
	if o.Configure != nil {
		if err := o.Configure(n, index, file); err != nil {
			return nil, fmt.Errorf("launch: configure %s: %w", name, err)
		}
	}
	if err := os.WriteFile(n.configPath, []byte(file.String()), 0o600); err != nil {
		return nil, err
	}
	return n, nil
}

// config is the file of a node before Options.Configure.
func (c *Cluster) config(n *Node, name string, index int, o *Options) *INI {
	f := &INI{}
	host := "127.0.0.1"
	switch n.role {
	case Chat:
		f.Set("SelfServer", "Name", name)
		f.Set("SelfServer", "Host", host)
		f.Set("SelfServer", "Port", n.addr.String())
		f.Set("SelfServer", "RPCPort", n.rpc.String())
		for _, key := range slices.Sorted(maps.Keys(n.more)) {
			f.Set("SelfServer", key, n.more[key].String())
		}
		if o.Cert != "" {
			f.Set("TLS", "Cert", o.Cert)
			f.Set("TLS", "Key", o.Key)
		}
	case Status:
		f.Set("StatusServer", "Name", name)
		f.Set("StatusServer", "Host", host)
		f.Set("StatusServer", "Port", n.addr.String())
	case Gate:
		f.Set("GateServer", "Host", host)
		f.Set("GateServer", "Port", n.addr.String())
		f.Set("GateServer", "VarifyAddr", n.rpc.Addr())
		if count := len(c.Status); count > 0 {
			addrs := make([]string, count)
			for i := range addrs { // each gate begins with another one
				addrs[i] = c.Status[(index+i)%count].Addr()
			}
			f.Set("StatusServer", "Addrs", strings.Join(addrs, ","))
		}
	}
	if c.Redis != nil {
		f.Set("Redis", "Host", host)
		f.Set("Redis", "Port", c.Redis.port.String())
	}
	if c.MariaDB != nil && n.role != Status { // a status node has no business with SQL
		f.Set("Mysql", "Host", host)
		f.Set("Mysql", "Port", c.MariaDB.port.String())
		f.Set("Mysql", "User", c.MariaDB.User)
		f.Set("Mysql", "Passwd", c.MariaDB.Password)
		f.Set("Mysql", "Schema", c.MariaDB.Schema)
	}
	f.Set("Ops", "Addr", n.ops.Addr())
	f.Set("Log", "Level", o.LogLevel)
	f.Set("Log", "Format", "json")
	f.Set("Cluster", "Secret", c.secret)
	return f
}

// answersReady asks /readyz, which is 200 once every dependency answers.
func (n *Node) answersReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.OpsAddr()+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := n.readyHTTPClient.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s: %s", resp.Status, body)
	}
	return nil
}

// AwaitReady waits until /readyz answers 200: after Resume, after a dependency came back. It returns an error when ctx
// or the process ends first.
func (n *Node) AwaitReady(ctx context.Context) error {
	l := n.life()
	if l == nil {
		return fmt.Errorf("launch: %s: %w", n.Name(), ErrNotRunning)
	}
	if err := n.awaitReady(ctx, l); err != nil {
		return fmt.Errorf("launch: %s: %w", n.Name(), err)
	}
	return nil
}
