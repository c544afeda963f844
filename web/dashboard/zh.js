// 简体中文。
export default {
  // 页面
  cluster: '集群', title: 'Parley 集群', skip: '跳到节点', now: '当前', nodes: '节点', rebalanceAsk: '重新均衡…', nodeTable: '节点表',
  node: '节点', state: '状态', sessions: '会话', texts: '消息/秒', pushes: '推送/秒', p50: '消息 p50', p99: 'p99', waiting: '排队', up: '运行时间', action: '操作',
  noNodes: '没有持有租约的聊天节点。启动一个，两秒内就会出现在这里。', curves: '曲线', span: '时间范围', min5: '5 分钟', min15: '15 分钟', hour1: '1 小时',
  events: '事件', noEvents: '还没有发生任何事。', refusals: '拒绝原因', noRefusals: '没有任何拒绝。', slow: '慢客户端', noSlow: '所有客户端都及时读取。',
  user: '用户', find: '查找', searchHint: '按 uid 查找，留空则显示前二十个。', cancel: '取消', close: '关闭',
  // 数字
  connections: '{n} 个连接', textsPerSecond: '每秒消息', nPushes: '{n} 次推送', textAnswered: '消息应答', andP50: 'p99；p50 {time}', loginsPerSecond: '每秒登录', p99Of: 'p99 {time}', refusedPerSecond: '每秒拒绝', allReasons: '所有原因',
  chartSessions: '会话', chartTexts: '每秒存储的消息', chartLatency: '消息应答时间', chartRefused: '每秒登录与拒绝', logins: '登录', refused: '拒绝', noFigures: '还没有数据', minutesAgo: '−{n} 分钟', rightNow: '现在',
  seconds: '{n} 秒', minutes: '{n} 分钟', hours: '{n} 小时 {m} 分钟', days: '{n} 天',
  nOpen: '{n} 个节点开放', nMoving: '{n} 个已排空或正在排空', nSilent: '{n} 个无应答', asOf: '{span}前的数据',
  // 节点
  open: '开放', draining: '正在排空', drained: '已排空', silent: '无应答', dead: '失效', drain: '排空', drainAsk: '排空…', undrain: '恢复', drainNode: '排空 {node}', undrainNode: '恢复 {node}',
  lastHeard: '曾有 {n} 个会话；{span}前最后应答', neverHeard: '从未应答', moved: '已迁移 {moved}/{told} 个客户端', gap: '中断 p50 {p50}，p99 {p99}，最长 {max}', notSeen: '{n} 个尚未出现',
  drainTitle: '排空 {node}？', drainText: '该节点从现在起不再接受登录。它的 {n} 个会话会被送往其他节点；客户端大约一秒内在那里恢复，不会丢失任何内容。', spreadOver: '分散在', unitSeconds: '秒内',
  undrainTitle: '恢复 {node}？', undrainText: '该节点重新接受登录。已迁走的客户端留在原处；重新均衡会带回其中一部分。',
  nothingToMove: '无需迁移', balanced: '接受登录的各节点会话数相近。', rebalanceTitle: '重新均衡？', transfer: '{n} 个客户端从 {from} 到 {to}', moveThem: '迁移',
  // 会话
  stock: '原版客户端', onNode: '在 {node} 上 {span}，{ago}前活动', slowOn: '{uid} {device}，在 {node}', endAsk: '结束…', endOf: '结束 {uid} {device} 的会话', notAsked: '以下节点无应答，未查询：{nodes}。', notLoggedIn: '用户 {uid} 未登录。', nobody: '没有人登录。',
  endTitle: '结束用户 {uid} 的这个会话？', endText: '设备“{device}”需要用密码重新登录。已发送的内容不会丢失。', endSession: '结束会话',
  // 故障
  noRedis: 'Redis 已有 {span}没有应答状态节点：无法得知谁还在线。', stale: '{why}显示的是 {span}前的数据。', nothingYet: '{why}还没有可显示的数据。', noAnswer: '状态节点没有应答。', nonsense: '应答无法理解。', status: '状态 {n}',
  tokenTitle: '此集群需要令牌', tokenText: '请输入状态节点的 [Ops] Token。它只保存在这个标签页中。', token: '令牌', goOn: '继续', wrongToken: '令牌不正确。', by: '来自 {who}',
  // 状态节点对节点和操作的描述
  said_open: '接受登录', said_answers: '恢复应答', said_back: '已回来', said_again: '重新接受登录', said_draining: '不再接受登录，正在把客户端迁往其他节点', said_drained: '已迁走所有客户端', said_silent: '没有应答', said_dead: '失效：租约已到期', said_left: '已停止并离开集群',
  said_drain: '排空', said_undrain: '恢复', said_kick: '踢出用户 {uid}：结束了 {n} 个会话', said_rebalance: '重新均衡：迁移 {n} 个客户端',
  // 拒绝：对象与原因
  said_connection: '连接', said_login: '登录', said_request: '请求', said_requestRate: '请求频率', said_textRate: '消息频率', said_queueFull: '队列已满', said_windowFull: '窗口已满', said_flooding: '洪泛', said_badFrame: '错误的帧', said_loginTimeout: '登录超时', said_evicted: '被驱逐', said_shed: '过载丢弃', said_commitQueue: '提交队列已满', said_denied: '不允许',
  reason: '{what}：{why}', code: '代码 {n}', why_1010: '令牌无效', why_2000: '内部错误', why_2001: '繁忙', why_2002: '不可用', why_2003: '频率', why_2005: '请求错误', why_2006: '不允许', why_2008: '正在排空',
  why_full: '已满', why_unauthenticated: '未登录者过多', why_address: '同一地址过多', why_address_rate: '地址频率', why_rate: '频率', why_draining: '正在排空',
};
