// English.
export default {
  // Page
  cluster: 'cluster', title: 'Parley cluster', skip: 'Skip to the nodes', now: 'Now', nodes: 'Nodes', rebalanceAsk: 'Rebalance…', nodeTable: 'Table of nodes',
  node: 'Node', state: 'State', sessions: 'Sessions', texts: 'Texts/s', pushes: 'Pushes/s', p50: 'Text p50', p99: 'p99', waiting: 'Waiting', up: 'Up', action: 'Action',
  noNodes: 'No chat node has a lease. Start one, and it appears here within two seconds.', curves: 'Curves', span: 'Time shown', min5: '5 min', min15: '15 min', hour1: '1 hour',
  events: 'Events', noEvents: 'Nothing has happened yet.', refusals: 'Refusals by reason', noRefusals: 'Nothing has been refused.', slow: 'Slow consumers', noSlow: 'All clients read what they are sent.',
  user: 'User', find: 'Find', searchHint: 'Search by uid, or leave it empty for the first twenty.', cancel: 'Cancel', close: 'Close',
  // Figures
  connections: '{n} connections', textsPerSecond: 'Texts per second', nPushes: '{n} pushes', textAnswered: 'Text answered', andP50: 'p99; p50 {time}', loginsPerSecond: 'Logins per second', p99Of: 'p99 {time}', refusedPerSecond: 'Refused per second', allReasons: 'all reasons',
  chartSessions: 'Sessions', chartTexts: 'Texts stored per second', chartLatency: 'Answer to a text', chartRefused: 'Logins and refusals per second', logins: 'logins', refused: 'refused', noFigures: 'no figures yet', minutesAgo: '−{n} min', rightNow: 'now',
  seconds: '{n} s', minutes: '{n} min', hours: '{n} h {m} min', days: '{n} days',
  nOpen: '{n} {n|node|nodes} open', nMoving: '{n} drained or draining', nSilent: '{n} not answering', asOf: 'as of {span} ago',
  // Nodes
  open: 'Open', draining: 'Draining', drained: 'Drained', silent: 'Silent', dead: 'Dead', drain: 'Drain', drainAsk: 'Drain…', undrain: 'Undrain', drainNode: 'Drain {node}', undrainNode: 'Undrain {node}',
  lastHeard: 'had {n} sessions; last heard {span} ago', neverHeard: 'never heard', moved: '{moved} of {told} clients moved', gap: 'gap p50 {p50}, p99 {p99}, max {max}', notSeen: '{n} not seen yet',
  drainTitle: 'Drain {node}?', drainText: 'The node takes no logins from now on. Its {n} sessions are sent to the other nodes; clients resume there within a second or so, and lose nothing.', spreadOver: 'Spread over', unitSeconds: 'seconds',
  undrainTitle: 'Undrain {node}?', undrainText: 'The node takes logins again. Clients that have moved stay where they are; a rebalance brings some of them back.',
  nothingToMove: 'Nothing to move', balanced: 'The nodes that take logins have about as many sessions each.', rebalanceTitle: 'Rebalance?', transfer: '{n} clients from {from} to {to}', moveThem: 'Move them',
  // Sessions
  stock: 'stock client', onNode: 'on {node} for {span}, heard {ago} ago', slowOn: '{uid} {device} on {node}', endAsk: 'End…', endOf: 'End session of {uid} {device}', notAsked: 'Not asked, because silent: {nodes}.', notLoggedIn: 'User {uid} is not logged in.', nobody: 'Nobody is logged in.',
  endTitle: 'End this session of user {uid}?', endText: 'The device “{device}” has to log in with the password again. Nothing that was sent is lost.', endSession: 'End session',
  // Trouble
  noRedis: 'Redis has not answered the status node for {span}: who is alive is not known.', stale: '{why} What is shown is {span} old.', nothingYet: '{why} There is nothing to show yet.', noAnswer: 'The status node does not answer.', nonsense: 'The answer makes no sense.', status: 'status {n}',
  tokenTitle: 'This cluster needs a token', tokenText: 'Enter [Ops] Token of the status node. It is kept in this tab only.', token: 'Token', goOn: 'Go on', wrongToken: 'That is not the token.', by: 'by {who}',
  // What the status node says of nodes and actions.
  said_open: 'takes logins', said_answers: 'answers again', said_back: 'is back', said_again: 'takes logins again', said_draining: 'takes no logins and moves its clients to other nodes', said_drained: 'has moved its clients', said_silent: 'does not answer', said_dead: 'is dead: its lease has ended', said_left: 'stopped and left the cluster',
  said_drain: 'drain', said_undrain: 'undrain', said_kick: 'kick of user {uid}: {n} sessions ended', said_rebalance: 'rebalance: {n} clients move',
  // What it says of refusals: of what, and why.
  said_connection: 'connection', said_login: 'login', said_request: 'request', said_requestRate: 'request rate', said_textRate: 'text rate', said_queueFull: 'queue full', said_windowFull: 'window full', said_flooding: 'flooding', said_badFrame: 'bad frame', said_loginTimeout: 'login time-out', said_evicted: 'evicted', said_shed: 'shed', said_commitQueue: 'commit queue full', said_denied: 'not allowed',
  reason: '{what}: {why}', code: 'code {n}', why_1010: 'token invalid', why_2000: 'internal', why_2001: 'busy', why_2002: 'unavailable', why_2003: 'rate', why_2005: 'bad request', why_2006: 'not allowed', why_2008: 'draining',
  why_full: 'full', why_unauthenticated: 'too many not logged in', why_address: 'too many of one address', why_address_rate: 'address rate', why_rate: 'rate', why_draining: 'draining',
};
