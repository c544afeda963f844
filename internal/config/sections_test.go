package config

import (
	"net"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestAdvertised(t *testing.T) {
	for _, c := range []struct {
		name        string
		self        Self
		client, rpc string
	}{
		{"host", Self{Host: "10.0.0.1"}, "10.0.0.1:80", "10.0.0.1:81"},
		{"name", Self{Host: "127.0.0.1", Advertise: "chat1.example.org"}, "chat1.example.org:80", "chat1.example.org:81"},
		{"name and port", Self{Host: "0.0.0.0", Advertise: "chat1.example.org:443"}, "chat1.example.org:443", "chat1.example.org:81"},
		{"both", Self{Advertise: "a:443", AdvertiseRPC: "b"}, "a:443", "b:81"},
		{"rpc alone", Self{Host: "10.0.0.1", AdvertiseRPC: "b:9"}, "10.0.0.1:80", "b:9"},
		{"ipv6", Self{Host: "::1"}, "[::1]:80", "[::1]:81"},
	} {
		require.Equal(t, c.client, c.self.ClientAddr(80), c.name)
		require.Equal(t, c.rpc, c.self.RPCAddr(81), c.name)
	}
	for _, c := range []struct {
		self Self
		ws   string
	}{
		{Self{Host: "10.0.0.1"}, "ws://10.0.0.1:82/"},
		{Self{Host: "10.0.0.1", Advertise: "chat1.example.org:443"}, "ws://chat1.example.org:82/"},
		{Self{Host: "10.0.0.1", AdvertiseWS: "web.example.org"}, "ws://web.example.org:82/"},
		{Self{Host: "10.0.0.1", AdvertiseWS: "web.example.org:83"}, "ws://web.example.org:83/"},
		{Self{Host: "10.0.0.1", AdvertiseWS: "wss://web.example.org/node1"}, "wss://web.example.org/node1"},
	} {
		c.self.Name = "chat1"
		require.NoError(t, c.self.Validate())
		require.Equal(t, c.ws, c.self.WSURL(82))
		require.Empty(t, c.self.WSListenAddr(), "no port, no listener")
	}
	require.Equal(t, "10.0.0.1:0", Self{Host: "10.0.0.1", WSPort: "0"}.WSListenAddr())
	for _, bad := range []Self{{WSPort: "x"}, {WSPort: "65536"}, {AdvertiseWS: "http://a/"}, {AdvertiseWS: "a/b"}, {AdvertiseWS: "ws://"}, {AdvertiseWS: "ws://u@a/"}} {
		bad.Name = "chat1"
		require.Error(t, bad.Validate(), "%+v", bad)
	}
	require.NoError(t, Self{Name: "chat1", ProxyFrom: []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.1"}}.Validate())
	require.EqualError(t, Self{Name: "chat1", ProxyFrom: []string{"10.0.0.0/8", "proxy"}}.Validate(),
		"[] ProxyFrom has something that is neither an address nor a network: proxy")
	require.NoError(t, WebSocket{Origins: []string{"*", "a.example.org", "https://a.example.org:8443"}}.Validate())
	for _, bad := range []string{"a/b", "https://a.example.org/path", "https://", "null origin"} {
		require.Error(t, WebSocket{Origins: []string{bad}}.Validate(), bad)
	}
	for _, host := range []string{"", "0.0.0.0", "::"} {
		got, _, err := net.SplitHostPort(Self{Host: host}.ClientAddr(80))
		require.NoError(t, err)
		ip := net.ParseIP(got)
		require.NotNil(t, ip)
		require.False(t, ip.IsUnspecified(), "nobody can connect to %s", got)
	}
}

func TestRedisOptions(t *testing.T) {
	r := DefaultRedis()
	require.NoError(t, r.Validate())
	o := r.options()
	require.Equal(t, []string{"127.0.0.1:6379"}, o.Addrs)
	require.True(t, o.DisableIdentity)
	require.True(t, o.ContextTimeoutEnabled)
	require.Equal(t, 2, o.Protocol)
	require.Nil(t, o.TLSConfig)
	for name, bad := range map[string]Redis{
		"no host":               {},
		"no port":               {Addr: []string{"a"}},
		"two without a mode":    {Addr: []string{"a:1", "b:2"}},
		"cluster and sentinels": {Addr: []string{"a:1"}, Cluster: true, Master: "m"},
		"master alone":          {Host: "h", Master: "m"},
		"cluster with database": {Addr: []string{"a:1"}, Cluster: true, DB: 1},
	} {
		require.Error(t, bad.Validate(), name)
	}
	require.NoError(t, Redis{Addr: []string{"a:1", "b:2"}, Cluster: true}.Validate())
	require.NoError(t, Redis{Addr: []string{"a:1", "b:2"}, Master: "m"}.Validate())
}

// After a fail-over in a Redis Cluster only a fresh map of slots leads to the new master: the old one is silent.
func TestANewMasterOfARedisClusterIsFoundWithinSeconds(t *testing.T) {
	r := DefaultRedis()
	r.Cluster = true
	c := r.NewClient()
	defer c.Close()
	require.IsType(t, &redis.ClusterClient{}, c)
	require.LessOrEqual(t, c.(*redis.ClusterClient).Options().ClusterStateReloadInterval, 5*time.Second)
}

func TestDSN(t *testing.T) {
	m := DefaultMySQL()
	m.Passwd, m.Schema = "p@ss/w:rd?x=1", "ll fc"
	c, err := mysql.ParseDSN(m.DSN())
	require.NoError(t, err)
	require.Equal(t, m.Passwd, c.Passwd)
	require.Equal(t, m.Schema, c.DBName)
	require.Equal(t, "127.0.0.1:3306", c.Addr)
	require.Equal(t, m.Timeout, c.ReadTimeout)
	require.NoError(t, m.Validate())
	require.Error(t, MySQL{}.Validate())
}
