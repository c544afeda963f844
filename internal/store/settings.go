package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// What a server must be like for the store to keep its promises, beside what durability.go and fencecheck.go look at.

const (
	qBinlogFormat = "SELECT @@SESSION.binlog_format FROM DUAL WHERE @@GLOBAL.log_bin=1"
	qCharsets     = "SELECT CONCAT_WS(',',@@character_set_client,@@character_set_connection,@@character_set_results)"
)

// checkBinlog refuses a server that would refuse every write: under READ COMMITTED InnoDB cannot be logged by statement.
func (s *Store) checkBinlog(ctx context.Context) error {
	value, err := s.setting(ctx, qBinlogFormat)
	if err != nil {
		return fmt.Errorf("store: binlog_format: %w", err)
	}
	if strings.EqualFold(value, "STATEMENT") {
		return fmt.Errorf("store: %w: binlog_format is STATEMENT, with which InnoDB refuses writes under READ COMMITTED: set it to ROW or MIXED", ErrSettings)
	}
	return nil
}

// charsetWarning returns what is wrong with the character sets of a session, "" if nothing is.
func (s *Store) charsetWarning(ctx context.Context) (string, error) {
	value, err := s.setting(ctx, qCharsets)
	if err != nil {
		return "", fmt.Errorf("store: character sets: %w", err)
	}
	for set := range strings.SplitSeq(value, ",") {
		if set != "utf8mb4" {
			return "character sets of a session are " + value + ", want utf8mb4 for each: texts with emoji will be refused", nil
		}
	}
	return "", nil
}

// setting reads one value on a connection that transactions run on; "" if it does not apply or the engine lacks it.
func (s *Store) setting(ctx context.Context, query string) (value string, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.inspect(ctx, func(conn *sql.Conn) error { return conn.QueryRowContext(ctx, query).Scan(&value) })
	if code, ok := s.db.code(err); errors.Is(err, sql.ErrNoRows) || ok && code == unknownVariable {
		return "", nil
	}
	return value, err
}
