package ledger

// Summary is what the books say. All fields are numbers of texts unless noted.
type Summary struct {
	Planned, Sent, Resent        int64
	Acked, Refused, Unanswered   int64
	Delivered, Late              int64
	Copies                       int64 // of the texts of groups, at members
	HistoryRead                  int64 // messages of this run found in the history
	HistoryChecked               bool  // the history of every thread was read to its end
	StoredUnacked                int64 // stored although the sender never learned it: allowed
	Redelivered, ReorderedPushes int64 // after a disconnection, or by two senders of a group: allowed, a client drops or sorts them by number
	ReadBack                     int64 // not pushed because of a disconnection, or as a node said: allowed
	Gaps                         int64 // members of groups to whom a node said so

	// What must be zero.
	Lost        int64 // acknowledged, neither delivered nor stored
	Unstored    int64 // acknowledged and delivered, but not in the history
	Missed      int64 // acknowledged and stored, but never pushed to a user who was there all the time
	Duplicated  int64 // pushed twice without a reason
	StoredTwice int64 // in the history, or pushed, under two numbers
	Reordered   int64 // pushed after a later one of the same sender
	Corrupt     int64 // a text, an ack or a refusal that does not match anything sent
	Misrouted   int64 // came to, or was stored for, somebody else
	WrongSeq    int64 // one text, different numbers
	AckedTwice  int64
	Holes       int64 // numbers missing in a history

	AfterRemoval int64 // texts of a group, pushed to a member who had been removed from it before

	Faults []Fault // examples, at most 20 a book
}

// Add merges the books of another loop or process.
func (s *Summary) Add(o Summary) {
	// Books without texts say nothing about whether the others' history was read.
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

// Wrong returns how many violations there are; a run is correct when there is none.
func (s *Summary) Wrong() (n int64) {
	for _, p := range s.wrongs() {
		n += *p
	}
	return n
}
