package scan

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValuesAreFoundByTheirKeys(t *testing.T) {
	b := []byte(`{"id":"17","code": 202,"text":"accepted","params":{"seq":9}}`)
	require.EqualValues(t, 17, Number(b, `"id":"`))
	require.EqualValues(t, 202, Number(b, `"code":`))
	require.EqualValues(t, 9, Number(b, `"seq":`))
	require.Zero(t, Number(b, `"other":`))
	require.Zero(t, Number([]byte(`{"seq":`), `"seq":`), "cut off")
	require.Equal(t, "accepted", string(Text(b, `"text":"`)))
	require.Nil(t, Text(b, `"other":"`))
	require.Nil(t, Text([]byte(`{"text":"acc`), `"text":"`), "cut off")
}
