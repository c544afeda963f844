package ledger

// Summary is the result of reconciling the books. All fields count texts unless noted.
type Summary struct {
	Planned, Sent, Resent        int64
	Acked, Refused, Unanswered   int64
	Delivered, Late              int64
	Copies                       int64 // texts of groups, counted once per member
	HistoryRead                  int64 // messages of this run found in the history
	HistoryChecked               bool  // the history of every thread was read to its end
	StoredUnacked                int64 // stored although its sender was never told: allowed
	Redelivered, ReorderedPushes int64 // after a disconnection, or by two senders of a group: allowed, because clients drop or sort them by number
	ReadBack                     int64 // not pushed because of a disconnection, or because a node announced it: allowed
	Gaps                         int64 // members of groups to whom a node announced a gap

	// All of the following must be zero.
	Lost        int64 // acknowledged, neither delivered nor stored
	Unstored    int64 // acknowledged and delivered, but not in the history
	Missed      int64 // acknowledged and stored, but never pushed to a user who was online throughout
	Duplicated  int64 // pushed twice without a permitted reason
	StoredTwice int64 // in the history, or pushed, with two numbers
	Reordered   int64 // pushed after a later one of the same sender
	Corrupt     int64 // a text, an ack or a refusal that matches nothing that was sent
	Misrouted   int64 // delivered to, or stored for, another user
	WrongSeq    int64 // one text with different numbers
	AckedTwice  int64
	Holes       int64 // numbers missing in a history

	AfterRemoval int64 // texts of a group pushed to a member after its removal

	Faults []Fault // examples, at most 20 per book
}

// Add adds the books of another loop or process.
func (s *Summary) Add(o Summary) {
	// A book without texts does not tell whether the history of others was read.
	switch {
	case s.Planned == 0:
		s.HistoryChecked = o.HistoryChecked
	case o.Planned > 0:
		s.HistoryChecked = s.HistoryChecked && o.HistoryChecked
	}
	a, b := s.numbers(), o.numbers()
	for i := range a {
		*a[i] += *b[i]
	}
	s.Faults = append(s.Faults, o.Faults...)
	s.Faults = s.Faults[:min(len(s.Faults), maxFaults)]
}

func (s *Summary) numbers() []*int64 {
	return append([]*int64{
		&s.Planned, &s.Sent, &s.Resent, &s.Acked, &s.Refused, &s.Unanswered, &s.Delivered, &s.Late, &s.HistoryRead,
		&s.StoredUnacked, &s.Redelivered, &s.ReorderedPushes, &s.ReadBack, &s.Copies, &s.Gaps,
	}, s.wrongs()...)
}

func (s *Summary) wrongs() []*int64 {
	return []*int64{
		&s.Lost, &s.Unstored, &s.Missed, &s.Duplicated, &s.StoredTwice, &s.Reordered, &s.Corrupt, &s.Misrouted, &s.WrongSeq,
		&s.AckedTwice, &s.Holes, &s.AfterRemoval,
	}
}

// Wrong returns the number of violations; a run is correct if it is 0.
func (s *Summary) Wrong() (n int64) {
	for _, p := range s.wrongs() {
		n += *p
	}
	return n
}
