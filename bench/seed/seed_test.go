package seed

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/internal/presence"
)

func TestANodesFileIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat1.ini")
	require.NoError(t, os.WriteFile(path, []byte(`; a chat node
[SelfServer]
Name = chat1
[Limits]
RequestRate = 0
[Redis]
Host = 10.0.0.9
Port = 6400
[Mysql]
Host = 10.0.0.8
User = u
Passwd = p
Schema = s
[Cluster]
Secret = a-secret-that-is-long-enough-to-be-accepted
`), 0o600))
	c, err := FromConfig(path, nil)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.9", c.Redis.Host)
	require.Equal(t, 6400, c.Redis.Port)
	require.Contains(t, c.Mysql.DSN(), "u:p@tcp(10.0.0.8:3306)/s")
	require.NotEmpty(t, c.Cluster.Secret)

	// F6: variables that override the nodes' configuration apply here too; variables of other sections are ignored.
	c, err = FromConfig(path, []string{"PARLEY_REDIS_PORT=6500", "PARLEY_SELFSERVER_NAME=chat9", "PATH=/bin", "PARLEY_MYSQL_HOST=10.0.0.7"})
	require.NoError(t, err)
	require.Equal(t, 6500, c.Redis.Port)
	require.Contains(t, c.Mysql.DSN(), "tcp(10.0.0.7:")
	_, err = FromConfig(path, []string{"PARLEY_REDIS_PRT=6500"})
	require.ErrorContains(t, err, "PARLEY_REDIS_PRT")

	require.NoError(t, os.WriteFile(path, []byte("[Redis]\nPrt = 1\n"), 0o600))
	_, err = FromConfig(path, nil)
	require.ErrorContains(t, err, "Prt")
	_, err = FromConfig(path+"x", nil)
	require.Error(t, err)
}

func TestCachesAreWarm(t *testing.T) {
	mini := miniredis.RunT(t)
	at, err := RedisAt(mini.Addr())
	require.NoError(t, err)
	steps := map[string]int{}
	require.NoError(t, Warm(t.Context(), Options{
		Redis: at, Users: 3000, Progress: func(step string, done, _ int) { steps[step] = max(steps[step], done) },
	}))
	require.Equal(t, map[string]int{"caches": 3000}, steps)
	rdb := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	defer rdb.Close()
	pr := presence.New(rdb, presence.Options{})
	defer pr.Close()
	for i := range int32(4) { // 0 and 1 are friends, 2 and 3
		data, err := pr.Cache.ProfileByUID(t.Context(), FirstUID+i)
		require.NoError(t, err)
		require.Contains(t, string(data), name(FirstUID+i))
		known, err := pr.Logins.Prelogin(t.Context(), FirstUID+i, presence.NewToken())
		require.NoError(t, err)
		require.Contains(t, string(known.Lists), name(FirstUID+(i^1)))
	}
	_, err = RedisAt("nowhere")
	require.Error(t, err)
}

func TestNumbersThatCannotBe(t *testing.T) {
	for _, o := range []Options{{Users: 0}, {Users: 3}, {Users: 10, FirstUID: 1<<31 - 5}} {
		require.ErrorContains(t, Run(t.Context(), o), "even")
	}
}
