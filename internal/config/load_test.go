package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kinds has a key of every kind.
type kinds struct {
	Text     string        `help:"text"`
	Switch   bool          `help:"switch"`
	Int      int           `help:"int" min:"-5" max:"1000000"`
	Small    int8          `help:"small"`
	Unsigned uint16        `help:"unsigned"`
	Float    float64       `help:"float" max:"10"`
	Wait     time.Duration `help:"wait" max:"1h"`
	MaxBytes int           `help:"bytes"`
	List     []string      `help:"list"`
	Mode     string        `help:"mode" oneof:"fast safe"`
	Secret   string        `help:"secret" secret:"true"`
}

type kindConfig struct {
	Kinds kinds
}

func kindDefaults() kindConfig {
	return kindConfig{Kinds: kinds{
		Text: "def", Int: 1, Small: 1, Unsigned: 1, Float: 1, Wait: time.Second, MaxBytes: 1, List: []string{"def"}, Mode: "fast", Secret: "def",
	}}
}

// nodeConfig is like a chat node's.
type nodeConfig struct {
	Self    Self  `ini:"SelfServer"`
	Peers   Peers `ini:"PeerServer"`
	Redis   Redis
	MySQL   MySQL `ini:"Mysql"`
	Log     Log
	Ops     Ops
	Cluster Cluster
}

func nodeDefaults() nodeConfig {
	return nodeConfig{
		Self:  Self{Name: "chat1", Host: "127.0.0.1", Port: "8090", RPCPort: 50055},
		Redis: DefaultRedis(), MySQL: DefaultMySQL(), Log: DefaultLog(), Ops: DefaultOps(),
	}
}

// load runs Load with a file called node.ini that holds text (none when text is empty).
func load[T any](t *testing.T, cfg *T, text string, env []string, args ...string) (Loaded, string, error) {
	t.Helper()
	if text != "" {
		path := filepath.Join(t.TempDir(), "node.ini")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		args = append([]string{"--config", path}, args...)
	}
	var out bytes.Buffer
	loaded, err := Load(Process{Name: "node", Version: "v1 (test)", Args: args, Environ: env, Stdout: &out}, cfg)
	return loaded, out.String(), err
}

func TestPrecedenceOfEveryKind(t *testing.T) {
	for _, c := range []struct {
		key             string
		get             func(kinds) any
		file, env, flag string // what is written there
		def, f, e, g    any    // what comes of it
	}{
		{"Text", func(k kinds) any { return k.Text }, "a ; b # c", "e=v", "flag", "def", "a ; b # c", "e=v", "flag"},
		{"Switch", func(k kinds) any { return k.Switch }, "true", "off", "yes", false, true, false, true},
		{"Int", func(k kinds) any { return k.Int }, "-2", "3", "1000000", 1, -2, 3, 1000000},
		{"Small", func(k kinds) any { return k.Small }, "-128", "3", "127", int8(1), int8(-128), int8(3), int8(127)},
		{"Unsigned", func(k kinds) any { return k.Unsigned }, "0", "3", "65535", uint16(1), uint16(0), uint16(3), uint16(65535)},
		{"Float", func(k kinds) any { return k.Float }, "0.5", "3", "1e1", 1.0, 0.5, 3.0, 10.0},
		{"Wait", func(k kinds) any { return k.Wait }, "250ms", "1m30s", "1h", time.Second, 250 * time.Millisecond, 90 * time.Second, time.Hour},
		{"MaxBytes", func(k kinds) any { return k.MaxBytes }, "100", "64KiB", "2 MiB", 1, 100, 64 << 10, 2 << 20},
		{"List", func(k kinds) any { return k.List }, "a,b", " c , ", "", []string{"def"}, []string{"a", "b"}, []string{"c"}, []string{}},
		{"Mode", func(k kinds) any { return k.Mode }, "safe", "fast", "safe", "fast", "safe", "fast", "safe"},
		{"Secret", func(k kinds) any { return k.Secret }, "p;w#%(x)s", "env", "flag", "def", "p;w#%(x)s", "env", "flag"},
	} {
		t.Run(c.key, func(t *testing.T) {
			text := "[Kinds]\n" + c.key + " = " + c.file + "\n"
			env := []string{"PARLEY_KINDS_" + strings.ToUpper(c.key) + "=" + c.env}
			flag := "--kinds." + strings.ToLower(c.key) + "=" + c.flag
			for _, step := range []struct {
				name, text string
				env        []string
				args       []string
				want       any
			}{
				{"default", "", nil, nil, c.def},
				{"file over default", text, nil, nil, c.f},
				{"env over default", "", env, nil, c.e},
				{"env over file", text, env, nil, c.e},
				{"empty env is not set", text, []string{"PARLEY_KINDS_" + strings.ToUpper(c.key) + "="}, nil, c.f},
				{"flag over default", "", nil, []string{flag}, c.g},
				{"flag over file", text, nil, []string{flag}, c.g},
				{"flag over all", text, env, []string{flag}, c.g},
			} {
				cfg := kindDefaults()
				_, _, err := load(t, &cfg, step.text, step.env, step.args...)
				require.NoError(t, err, step.name)
				require.Equal(t, step.want, c.get(cfg.Kinds), step.name)
			}
		})
	}
}

func TestFlagForms(t *testing.T) {
	cfg := kindDefaults()
	_, _, err := load(t, &cfg, "", nil, "--kinds.text", "one", "-kinds.switch", "--KINDS.Int", "7", "--kinds.secret=")
	require.NoError(t, err)
	require.Equal(t, "one", cfg.Kinds.Text)
	require.True(t, cfg.Kinds.Switch)
	require.Equal(t, 7, cfg.Kinds.Int)
	require.Empty(t, cfg.Kinds.Secret, "an empty flag is a value")
}

func TestConfigPathFromEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.ini")
	require.NoError(t, os.WriteFile(path, []byte("[Kinds]\nInt=9\n"), 0o600))
	cfg := kindDefaults()
	loaded, _, err := load(t, &cfg, "", []string{"PARLEY_CONFIG=" + path})
	require.NoError(t, err)
	require.Equal(t, path, loaded.File)
	require.Equal(t, 9, cfg.Kinds.Int)
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	bom := write("bom", "\xef\xbb\xbffrom Windows\r\n") // E5
	a, b, c := write("a", "from a\r\n"), write("b", "from b\n"), write("c", " from c ")
	for _, s := range []struct {
		name, text string
		env        []string
		args       []string
		want       string
	}{
		{"file key", "[Kinds]\nSecretFile=" + a, nil, nil, "from a"},
		{"env", "", []string{"PARLEY_KINDS_SECRET_FILE=" + b}, nil, "from b"},
		{"flag", "", nil, []string{"--kinds.secretfile", c}, " from c "},
		{"byte order mark", "", nil, []string{"--kinds.secretfile", bom}, "from Windows"},
		{"env file over value in file", "[Kinds]\nSecret=x", []string{"PARLEY_KINDS_SECRET_FILE=" + b}, nil, "from b"},
		{"flag value over env file", "", []string{"PARLEY_KINDS_SECRET_FILE=" + b}, []string{"--kinds.secret=f"}, "f"},
	} {
		cfg := kindDefaults()
		_, _, err := load(t, &cfg, s.text, s.env, s.args...)
		require.NoError(t, err, s.name)
		require.Equal(t, s.want, cfg.Kinds.Secret, s.name)
	}
}

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		name, text string
		env        []string
		args       []string
		code       int
		want       string
	}{
		{"unknown key", "\n[Redis]\nAdr = x\n", nil, nil, 78, `node.ini:3: [Redis] unknown key "Adr", did you mean "Addr"?`},
		{"wrong case", "[Redis]\nhost = x\n", nil, nil, 78, `node.ini:2: [Redis] unknown key "host", did you mean "Host"?`},
		{"nothing near", "[Redis]\nZebra = x\n", nil, nil, 78, `node.ini:2: [Redis] unknown key "Zebra"`},
		{"file of a key that is no secret", "[Redis]\nHostFile = x\n", nil, nil, 78, `node.ini:2: [Redis] unknown key "HostFile"`},
		{"unknown section", "[Rediss]\n", nil, nil, 78, `node.ini:1: unknown section [Rediss], did you mean [Redis]?`},
		{
			"unlisted peer", "[chatserver9]\nHost=x\n", nil, nil, 78,
			`node.ini:1: unknown section [chatserver9] (a section of its own must be named in [PeerServer] Servers)`,
		},
		{"bad number in the file", "[Redis]\nPort = x1\n", nil, nil, 78, `node.ini:2: [Redis] Port: "x1" is not a whole number`},
		{"bad number in the environment", "", []string{"PARLEY_REDIS_PORT=x"}, nil, 78, `PARLEY_REDIS_PORT: "x" is not a whole number`},
		{"bad number in a flag", "", nil, []string{"--redis.port=1.5"}, 78, `--redis.port: "1.5" is not a whole number`},
		{
			"bad duration", "[Redis]\nTimeout=5\n", nil, nil, 78,
			`node.ini:2: [Redis] Timeout: "5" is not a duration, want a number with its unit such as 250ms, 10s or 5m`,
		},
		{"bad switch", "[Redis]\nTLS=maybe\n", nil, nil, 78, `node.ini:2: [Redis] TLS: "maybe" is neither true nor false`},
		{"too large in the file", "[Redis]\nPort=70000\n", nil, nil, 78, `node.ini:2: [Redis] Port is 70000, at most 65535`},
		{"too small in the environment", "", []string{"PARLEY_REDIS_PORT=0"}, nil, 78, `PARLEY_REDIS_PORT: [Redis] Port is 0, at least 1`},
		{"not one of", "", nil, []string{"--log.level=loud"}, 78, `--log.level: [Log] Level is "loud", want one of debug, info, warn, error`},
		{"section's own check", "[SelfServer]\nName = a b\n", nil, nil, 78, `node.ini:2: [SelfServer] Name is "a b", want 1 to 64 of A-Z a-z 0-9 . _ -`},
		{"modes that exclude each other", "", nil, []string{"--redis.addr=a:1,b:2"}, 78, `--redis.addr: [Redis] Addr lists several servers, which needs Cluster or Master`},
		{"short secret", "", []string{"PARLEY_CLUSTER_SECRET=tiny-secret"}, nil, 78, `PARLEY_CLUSTER_SECRET: [Cluster] Secret is shorter than 16 bytes`},
		{"peer without address", "[PeerServer]\nServers=p\n[p]\nPort=5\n", nil, nil, 78, `[p] Host must not be empty (its default)`},
		{
			"peer with another section's name", "[PeerServer]\nServers=Redis\n", nil, nil, 78,
			`node.ini:2: [PeerServer] Servers names the section [Redis], which has another meaning or is listed twice`,
		},
		{"key before a section", "Host = x\n", nil, nil, 78, `node.ini:1: key "Host" stands before the first [Section]`},
		{"garbage", "[Redis]\nsome words\n", nil, nil, 78, `node.ini:2: neither [Section] nor Key = value`},
		{"half a header", "[Redis\n", nil, nil, 78, `node.ini:1: "[Redis" is not a section, want [Name]`},
		{"key twice", "[Redis]\nHost=a\n\nHost=b\n", nil, nil, 78, `node.ini:4: [Redis] Host again, first on line 2`},
		{"section twice", "[Redis]\n[Log]\n[Redis]\n", nil, nil, 78, `node.ini:3: section [Redis] again, it began on line 1`},
		{
			"secret twice at one level", "",
			[]string{"PARLEY_REDIS_PASSWD=a", "PARLEY_REDIS_PASSWD_FILE=/b"},
			nil, 78,
			`PARLEY_REDIS_PASSWD: set both here and by PARLEY_REDIS_PASSWD_FILE; keep one`,
		},
		{"secret file missing", "", nil, []string{"--redis.passwdfile=/does/not/exist"}, 78, `--redis.passwdfile: open /does/not/exist: no such file or directory`},
		{"no such file", "", nil, []string{"--config", "/does/not/exist"}, 78, `config: open /does/not/exist: no such file or directory`},
		{"unknown flag", "", nil, []string{"--redis.adr=x"}, 2, `unknown flag --redis.adr, did you mean --redis.addr?`},
		{"flag without value", "", nil, []string{"--redis.host"}, 2, `flag --redis.host needs a value`},
		{"flag twice", "", nil, []string{"--redis.host=a", "--redis.host=b"}, 2, `flag --redis.host is given twice`},
		{"value for a command", "", nil, []string{"--check=1"}, 2, `flag --check takes no value`},
		{"argument", "", nil, []string{"run"}, 2, `unexpected argument "run"; see --help`},
		{
			"all at once", "[Redis]\nAdr=x\nPort=y\n[Logg]\n",
			[]string{"PARLEY_MYSQL_PORT=z"},
			nil, 78,
			"node.ini:3: [Redis] Port: \"y\" is not a whole number\n" +
				"PARLEY_MYSQL_PORT: \"z\" is not a whole number\n" +
				"node.ini:2: [Redis] unknown key \"Adr\", did you mean \"Addr\"?\n" +
				"node.ini:4: unknown section [Logg], did you mean [Log]?",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := nodeDefaults()
			_, out, err := load(t, &cfg, c.text, c.env, c.args...)
			require.EqualError(t, err, c.want)
			require.Equal(t, c.code, ExitCode(err))
			require.Empty(t, out)
		})
	}
}

func TestFaultsNeverShowSecrets(t *testing.T) {
	cfg := nodeDefaults()
	_, _, err := load(t, &cfg, "[Redis]\nPasswd = hunter2 hunter2\nhunter2 without a key\n[Cluster]\nSecret=hunter2\n", nil)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	_, out, err := load(t, &cfg, "[Redis]\nPasswd = hunter2\n[Cluster]\nSecret=hunter2 hunter2 hunter2\n", nil, "--print-config")
	require.ErrorIs(t, err, ErrDone)
	require.NotContains(t, out, "hunter2")
	require.NotContains(t, cfg.Self.Name, "hunter2")
	_, out, _ = load(t, &cfg, "", nil, "--help")
	require.NotContains(t, out, "hunter2", "the default of a secret is not shown either")
	require.NotContains(t, Doc(&cfg), "hunter2")
}

func TestPeers(t *testing.T) {
	cfg := nodeDefaults()
	_, _, err := load(t, &cfg, "[PeerServer]\nServers = chatserver2, chatserver3\n[chatserver2]\nName=chat2\nHost=10.0.0.2\nPort=50056\n[chatserver3]\nHost=10.0.0.3\n",
		[]string{"PARLEY_CHATSERVER3_PORT=1"}, "--chatserver2.host=10.9.9.9")
	require.NoError(t, err)
	require.Equal(t, []Peer{{"chat2", "10.9.9.9", 50056}, {"chatserver3", "10.0.0.3", 1}}, cfg.Peers.Nodes)
	require.Equal(t, "10.9.9.9:50056", cfg.Peers.Nodes[0].Addr())
	_, _, err = load(t, &cfg, "", nil, "--peerserver.servers=x", "--x.host=h", "--x.port=7")
	require.NoError(t, err)
	require.Equal(t, []Peer{{"x", "h", 7}}, cfg.Peers.Nodes)
	require.NoError(t, ValidateSections(cfg))
	cfg.Peers.Nodes[0].Port = 0
	require.EqualError(t, ValidateSections(cfg), "[x] Port is 0, at least 1")
}

// F12: a wrong name is an error, as it is in a file.
func TestUnknownVariables(t *testing.T) {
	cfg := nodeDefaults()
	_, _, err := load(t, &cfg, "", []string{"PARLEY_REDIS_ADR=x", "PARLEY_OPS_ZEBRA=x", "PARLEY_REDIS_PASWD_FILE=x", "PARLEY_ZEBRA=x", "PARLEY_MYSQL_ADR=", "HOME=/root"}, "--check")
	require.EqualError(t, err, "unknown variable PARLEY_REDIS_ADR, did you mean PARLEY_REDIS_ADDR?\n"+
		"unknown variable PARLEY_OPS_ZEBRA\n"+
		"unknown variable PARLEY_REDIS_PASWD_FILE, did you mean PARLEY_REDIS_PASSWD_FILE?\n"+
		"unknown variable PARLEY_ZEBRA")
	require.Equal(t, ExitConfig, ExitCode(err))
	loaded, _, err := load(t, &cfg, "", []string{"PARLEY_STATUSSERVER_HOST=x", "PARLEY_PASSWORD=x", "PARLEY_BENCH_KEY=x"})
	require.NoError(t, err, "nodes may share an environment with other nodes and with tools")
	require.Equal(t, []string{"node does not use PARLEY_STATUSSERVER_HOST"}, loaded.Warnings)
}

// E1: what Kubernetes puts into the environment beside Services called parley, parley-redis and parley-mysql.
func TestKubernetesServiceLinksAreIgnored(t *testing.T) {
	links := []string{
		"PARLEY_PORT=tcp://10.0.0.1:8080", "PARLEY_PORT_8080_TCP=tcp://10.0.0.1:8080", "PARLEY_PORT_8080_TCP_ADDR=10.0.0.1",
		"PARLEY_PORT_8080_TCP_PORT=8080", "PARLEY_PORT_8080_TCP_PROTO=tcp",
		"PARLEY_REDIS_PORT=tcp://10.0.0.2:6379", "PARLEY_REDIS_PORT_6379_TCP=tcp://10.0.0.2:6379",
		"PARLEY_REDIS_SERVICE_HOST=10.0.0.2", "PARLEY_REDIS_SERVICE_PORT=6379", "PARLEY_REDIS_SERVICE_PORT_REDIS=6379",
		"PARLEY_MYSQL_PORT=tcp://10.0.0.3:3306", "PARLEY_MYSQL_SERVICE_HOST=10.0.0.3", "PARLEY_OPS_PORT_53_UDP=udp://10.0.0.4:53",
		"PARLEY_SERVICE_HOST=10.0.0.1", "PARLEY_SERVICE_PORT=8080", "PARLEY_SELFSERVER_PORT=tcp://[fd00::1]:8090",
	}
	cfg := nodeDefaults()
	loaded, _, err := load(t, &cfg, "", append(links, "PARLEY_REDIS_HOST=redis", "PARLEY_MYSQL_PORT_=", "PARLEY_LOG_LEVEL=warn"))
	require.NoError(t, err)
	require.Equal(t, 6379, cfg.Redis.Port)
	require.Equal(t, "8090", cfg.Self.Port)
	require.Equal(t, "redis", cfg.Redis.Host, "ours count")
	require.Len(t, loaded.Warnings, 1, "said once")
	for _, link := range links {
		name, _, _ := strings.Cut(link, "=")
		require.Contains(t, loaded.Warnings[0], name)
	}
	_, _, err = load(t, &cfg, "", []string{"PARLEY_REDIS_PORT=6380"})
	require.NoError(t, err)
	require.Equal(t, 6380, cfg.Redis.Port)
}

// F12
func TestAllFaultsAreToldAtOnce(t *testing.T) {
	cfg := nodeDefaults()
	_, _, err := load(t, &cfg, "[Redis]\nAdr=x\nPort=70000\n[SelfServer]\nName=a b\nRPCPort=y\nAdvertise=tcp://x\n", []string{"PARLEY_LOG_LEVL=info", "PARLEY_LOG_LEVEL=loud"}, "--check", "--cluster.secret=short")
	require.EqualError(t, err, "node.ini:6: [SelfServer] RPCPort: \"y\" is not a whole number\n"+
		"node.ini:2: [Redis] unknown key \"Adr\", did you mean \"Addr\"?\n"+
		"unknown variable PARLEY_LOG_LEVL, did you mean PARLEY_LOG_LEVEL?\n"+
		"node.ini:3: [Redis] Port is 70000, at most 65535\n"+
		"PARLEY_LOG_LEVEL: [Log] Level is \"loud\", want one of debug, info, warn, error\n"+
		"node.ini:5: [SelfServer] Name is \"a b\", want 1 to 64 of A-Z a-z 0-9 . _ -\n"+
		"node.ini:7: [SelfServer] Advertise is \"tcp://x\", want HOST or HOST:PORT without a scheme\n"+
		"--cluster.secret: [Cluster] Secret is shorter than 16 bytes")
	require.Equal(t, ExitConfig, ExitCode(err))
	cfg = nodeDefaults()
	_, _, err = load(t, &cfg, "[Redis]\nPort=70000\n", nil, "--redis.prt=1")
	require.EqualError(t, err, "unknown flag --redis.prt, did you mean --redis.port?\nnode.ini:2: [Redis] Port is 70000, at most 65535")
	require.Equal(t, ExitUsage, ExitCode(err))
}

// C8
func TestAddressesAreChecked(t *testing.T) {
	for value, problem := range map[string]string{
		"[::1]":                  `is "[::1]", want the address without brackets, or [ADDRESS]:PORT`,
		":8090":                  `is ":8090", which names no host`,
		"host:99999":             `is "host:99999", want a port from 1 to 65535`,
		"host:0":                 `is "host:0", want a port from 1 to 65535`,
		"host:":                  `is "host:", want a port from 1 to 65535`,
		"tcp://host:8090":        `is "tcp://host:8090", want HOST or HOST:PORT without a scheme`,
		"a b":                    `is "a b", want HOST or HOST:PORT`,
		"host/path":              `is "host/path", want HOST or HOST:PORT`,
		"a:b:c":                  `is "a:b:c", want HOST or HOST:PORT`,
		"0.0.0.0":                `is "0.0.0.0", which no client can connect to`,
		"[::]:8090":              `is "[::]:8090", which no client can connect to`,
		"-x.example:1":           `is "-x.example:1", whose host is neither a name nor an address`,
		strings.Repeat("x", 254): `is "` + strings.Repeat("x", 254) + `", want HOST or HOST:PORT`,
	} {
		s := Self{Name: "n", Advertise: value, AdvertiseRPC: value}
		require.EqualError(t, s.Validate(), "[] Advertise "+problem+"\n[] AdvertiseRPC "+problem, value)
	}
	for _, value := range []string{"", "host", "host:1", "chat-1.example.org.:8090", "10.0.0.1", "10.0.0.1:8090", "::1", "[::1]:8090", "fe80::1%eth0", "under_score"} {
		require.NoError(t, Self{Name: "n", Host: "::1", Advertise: value, AdvertiseRPC: value}.Validate(), value)
	}
	for want, v := range map[string]validator{
		`[] Host is "[::1]", want the address without brackets`:          Endpoint{Host: "[::1]"},
		`[] Host is "x:1", which is neither a name nor an address`:       Peer{Host: "x:1"},
		`[] Addr has ":6379", which names no host`:                       Redis{Addr: []string{":6379"}},
		`[] Addr has "redis://x:6379", want HOST:PORT`:                   Redis{Addr: []string{"redis://x:6379"}},
		`[] Addr is "localhost:70000", want a port from 0 to 65535`:      Ops{Addr: "localhost:70000"},
		`[] Addr is "http://x:1", want HOST:PORT`:                        Ops{Addr: "http://x:1"},
		`[] Host is "db/parley", which is neither a name nor an address`: MySQL{Host: "db/parley", User: "u", Schema: "s"},
		`[] Token is shorter than 16 bytes`:                              Ops{Token: "short"},
	} {
		require.EqualError(t, v.Validate(), want)
	}
	require.NoError(t, Ops{Addr: ":0", Token: "a token of 16 bytes"}.Validate())
}

// E5
func TestSizesThatOverflow(t *testing.T) {
	for text, want := range map[string]string{
		"17179869185GiB": "is out of range", "9007199254740993MiB": "is out of range", "-17179869185GiB": "is out of range",
		"8589934592GiB": "is out of range", "9223372036854775808": "is out of range", "8589934591GiB": "",
	} {
		cfg := kindDefaults()
		_, _, err := load(t, &cfg, "", nil, "--kinds.maxbytes="+text)
		if want == "" {
			require.NoError(t, err, text)
		} else {
			require.ErrorContains(t, err, want, text)
		}
	}
	cfg := kindDefaults()
	_, _, err := load(t, &cfg, "", nil, "--kinds.float=NaN")
	require.ErrorContains(t, err, "is not a number")
}

// TestSeedFiles loads what llfcchat's programs are configured with, as they are.
func TestSeedFiles(t *testing.T) {
	seed := "\xef\xbb\xbf[GateServer]\r\nPort = 8080\r\n[VarifyServer]\r\nHost = 127.0.0.1\r\nPort = 50051\r\n[StatusServer]\r\nHost  = 127.0.0.1\r\nPort = 50052\r\n" +
		"[SelfServer]\r\nName = chatserver1\r\nHost = 0.0.0.0\r\nPort  = 8090\r\nRPCPort = 50055\r\n" +
		"[Mysql]\r\nHost = 10.0.0.5\r\nPort = 3308\r\nUser = root\r\nPasswd = 123456.\r\nSchema = llfc\r\n" +
		"[Redis]\r\nHost = 10.0.0.6\r\nPort = 6380\r\nPasswd = 123456\r\n; a comment\r\n" +
		"[PeerServer]\r\nServers = chatserver2\r\n[chatserver2]\r\nName = chatserver2\r\nHost = 127.0.0.1\r\nPort = 50056\r\n"
	cfg := nodeDefaults()
	loaded, _, err := load(t, &cfg, seed, nil)
	require.NoError(t, err)
	require.Equal(t, Self{Name: "chatserver1", Host: "0.0.0.0", Port: "8090", RPCPort: 50055}, cfg.Self)
	require.Equal(t, "123456.", cfg.MySQL.Passwd)
	require.Equal(t, []Peer{{"chatserver2", "127.0.0.1", 50056}}, cfg.Peers.Nodes)
	require.Equal(t, []string{"node does not use [GateServer] [VarifyServer] [StatusServer]"}, loaded.Warnings)

	var status struct {
		Status Endpoint `ini:"StatusServer"`
		Redis  Redis
	}
	status.Redis = DefaultRedis()
	_, _, err = load(t, &status, "[StatusServer]\nPort=50052\nHost=0.0.0.0\n[Mysql]\nHost=x\n[Redis]\nHost=h\n[chatservers]\nName = chatserver1,chatserver2\n"+
		"[chatserver1]\nName=chatserver1\nHost=127.0.0.1\nPort=8090\n[chatserver2]\nName=chatserver2\nHost=127.0.0.1\nPort=8091\n", nil)
	require.NoError(t, err)
	require.Equal(t, "0.0.0.0:50052", status.Status.Addr())
}

func TestCommands(t *testing.T) {
	cfg := nodeDefaults()
	_, out, err := load(t, &cfg, "[Redis]\nHost=h\n", nil, "--check")
	require.ErrorIs(t, err, ErrDone)
	require.Equal(t, ExitOK, ExitCode(err))
	require.True(t, strings.HasSuffix(out, "node.ini: configuration ok\n"), out)

	_, out, err = load(t, &cfg, "[Redis]\nPort=0\n", nil, "--check")
	require.Equal(t, ExitConfig, ExitCode(err))
	require.Empty(t, out)

	_, out, err = load(t, &cfg, "", nil, "--version")
	require.ErrorIs(t, err, ErrDone)
	require.Equal(t, "v1 (test)\n", out)

	for _, flag := range []string{"--help", "-h"} {
		cfg := nodeDefaults()
		_, out, err = load(t, &cfg, "", nil, flag)
		require.ErrorIs(t, err, ErrDone)
		for _, k := range newSchema(&cfg).keys {
			require.Contains(t, out, "--"+k.flag()+" ")
			require.Contains(t, out, k.env()+"\n")
			require.Contains(t, out, k.help)
			require.NotEmpty(t, k.help, k)
		}
	}
}

// TestPrintConfigRoundTrip feeds what --print-config prints back in.
func TestPrintConfigRoundTrip(t *testing.T) {
	cfg := nodeDefaults()
	_, out, err := load(t, &cfg, "[PeerServer]\nServers=p\n[p]\nHost=h\nPort=5\n[Redis]\nPasswd=x\n", []string{"PARLEY_REDIS_TIMEOUT=90s"}, "--print-config")
	require.ErrorIs(t, err, ErrDone)
	require.Contains(t, out, "# from PARLEY_REDIS_TIMEOUT\nTimeout = 1m30s\n")
	require.Contains(t, out, "# from node.ini:4\nHost = h\n")
	again := nodeDefaults()
	_, _, err = load(t, &again, out, nil)
	require.NoError(t, err)
	cfg.Redis.Passwd = "***"
	cfg.Redis.Addr, again.Redis.Addr = nil, nil // an empty list and none are the same
	cfg.Self.ProxyFrom, again.Self.ProxyFrom = nil, nil
	require.Equal(t, cfg, again)
}

func TestDocIsCurrent(t *testing.T) {
	cfg := nodeDefaults()
	golden(t, "doc.md", Doc(&cfg))
	_, help, err := load(t, &cfg, "", nil, "--help")
	require.ErrorIs(t, err, ErrDone)
	golden(t, "help.txt", help)
}

// golden compares with testdata/name, or writes it when PARLEY_UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("PARLEY_UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run the test with PARLEY_UPDATE_GOLDEN=1 if this is meant")
}

func TestExitCodes(t *testing.T) {
	cause := errors.New("x")
	require.Equal(t, 0, ExitCode(nil))
	require.Equal(t, 0, ExitCode(ErrDone))
	require.Equal(t, 1, ExitCode(cause))
	require.Equal(t, 2, ExitCode(Usage(cause)))
	require.Equal(t, 69, ExitCode(Dependency(cause)))
	require.Equal(t, 78, ExitCode(errors.Join(cause, Invalid(cause))))
	require.ErrorIs(t, Dependency(cause), cause)
	require.NoError(t, Dependency(nil))
}

func TestFaultOfAnotherSection(t *testing.T) {
	require.EqualError(t, Faultf("Limits.Frame", "is %d", 1), "[Limits] Frame is 1")
}

func TestProgrammerErrorsPanic(t *testing.T) {
	require.Panics(t, func() { newSchema(kindConfig{}) })
	require.Panics(t, func() { newSchema(&struct{ A struct{ B chan int } }{}) })
	require.Panics(t, func() { newSchema(&struct{ A int }{}) })
	require.Panics(t, func() {
		newSchema(&struct {
			A struct{ K int }
			B struct{ K int } `ini:"A"`
		}{})
	})
}

func FuzzINI(f *testing.F) {
	for _, s := range []string{"", "[A]\nB=c\n", "[A\n", "=\n[]\n", "\xef\xbb\xbf[A]\r\nB = \r\n;x", "[A]\nB=c\nB=d\n[A]\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, faults := parseINI("f.ini", []byte(text))
		for _, err := range faults {
			require.Regexp(t, `^f\.ini:[1-9][0-9]*: `, err.Error())
		}
		lines := strings.Count(text, "\n") + 1
		for _, s := range file.sections {
			require.NotEmpty(t, s.name)
			for _, k := range s.keys {
				require.NotEmpty(t, k.name)
				require.Greater(t, k.line, s.line)
				require.LessOrEqual(t, k.line, lines)
			}
		}
	})
}
