package answer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// MaxRecords is more records than a message can hold: each takes at least 12 bytes of the 65535 (RFC 1035, section
// 4.1.3). An Answer yields at most this many of each kind.
const MaxRecords = services.MaxRecords

// MaxAliases is the number of CNAME records that one Answer follows, the same as in the stock
// kubernetes plugin.
const MaxAliases = 10

// Outcome is what answers a question.
type Outcome uint8

// The outcomes.
const (
	Ours    Outcome = iota // the Answer is the reply
	NotOurs                // the next plugin answers
	Refused                // a zone transfer, for the transfer plugin alone
	Follow                 // the reply is Aliases, followed by this server's answer for Target
)

// Kind is the kind of the records that follow the CNAME records of Aliases in the answer section.
type Kind uint8

// The kinds.
const (
	None        Kind = iota
	Addresses        // A or AAAA, by the question's type: see Addrs
	Targets          // SRV: see Targets
	Pointers         // PTR: see Pointers
	SOA              // the zone's SOA record
	Nameservers      // NS: see Nameservers
	Version          // the TXT record with the version of the specification
	Texts            // TXT: see Texts
	Mails            // MX: see Mails
	Servers          // SRV with targets of any name: see Servers
)

// Answer is the answer to a Question: values that point into the View it came from, with nothing encoded. It allocates
// nothing unless there are aliases. Its methods yield the records each time they are called.
type Answer struct {
	Question
	Outcome Outcome
	Rcode   int // as dns.RcodeNameError
	Kind    Kind
	TTL     uint32 // seconds, of the records of Kind

	// Zone is the zone of the name, nil for a hosts entry outside of all zones. With Denied, its SOA record is in the
	// authority section (RFC 2308, section 2).
	Zone   *Zone
	Denied bool

	// Behind means that the Target of a Follow is one or more load balancers known by hostname, see Hostnames. Their
	// addresses belong to the question's name itself, with those that Addrs yields.
	Behind bool

	// Aliases are the targets of the CNAME records that the answer section begins with. The first belongs to the
	// question's name, each other to the target before it. AliasTTL is their TTL.
	Aliases  []string
	AliasTTL uint32

	NotReady bool   // no objects were read yet, so nothing is known: Extended DNS Error 14
	Stale    uint32 // Unix time of the snapshot that the answer comes from, 0 for none: Extended DNS Error 3

	view    *View
	state   *services.State
	outside *external.State // in an external zone, else nil
	owner   string          // of the records of Kind: the question's name, or the last target, in the original case
	lower   string          // owner in lower case

	source source
	why    Why
	match  services.Match // of Services
	held   held           // of hosts entries
	host   external.Match // in an external zone
	inside bool           // the addresses are the cluster IPs behind host
	cname  string         // the hostname of the load balancer that the name is an alias for
	// Hosts entries have the name, and pass on questions for the type.
	passedOn bool
	address  netip.Addr // of a reverse name
	// The target of the address's PTR record, if a look-up shows that it is the only one.
	onlyService services.Service
	onlyEntry   string
}

// source is where the records come from.
type source uint8

const (
	fromServices source = iota
	fromHosts
	fromExternal // objects that have names for clients outside of the cluster
	fromSelf     // this server's own names and addresses
)

// Answer answers q. It reads one State of each index from the first look-up to the last.
func (v *View) Answer(q Question) (a Answer) {
	z := v.ZoneOf(q.Lower)
	switch {
	case z == nil:
		a.answer(v, q, nil, nil)
	case z.External != nil:
		a.outside = v.outside()
		a.answer(v, q, z, v.Index.State())
	default:
		a.answer(v, q, z, v.Index.State())
	}
	return a
}

// answer answers q, whose name is in z, from s. Both are nil for a name outside all zones. In an external zone,
// a.outside is set.
func (a *Answer) answer(v *View, q Question, z *Zone, s *services.State) {
	a.Question, a.Zone, a.TTL, a.AliasTTL, a.Stale = q, z, v.TTL, v.TTL, v.Snapshot
	a.view, a.state, a.owner, a.lower = v, s, q.Name, q.Lower
	if a.outside != nil {
		a.TTL, a.AliasTTL = z.External.TTL, z.External.TTL
	}
	if !q.ours() {
		a.Outcome, a.why = NotOurs, OtherClass
		return
	}
	a.decide()
	for a.Outcome == Ours && a.alias() {
		a.decide()
	}
	if len(a.Aliases) > 0 && (a.Outcome == NotOurs || a.Rcode == dns.RcodeNameError) {
		a.leave()
	}
}

// leave turns the answer into a Follow to a target that the zone lacks: a server block for a longer name may
// have it.
func (a *Answer) leave() {
	a.Outcome, a.Rcode, a.Kind, a.Denied = Follow, dns.RcodeSuccess, None, false
}

// Deny turns a Follow whose Behind is true and that leads to no address into a denial.
func (a *Answer) Deny() {
	a.Outcome, a.Behind = Ours, false
	a.noData()
}

// Owner returns the owner name of the records of Kind: the question's name, or the last target of Aliases.
func (a *Answer) Owner() string { return a.owner }

// Target returns the name that a Follow leads to.
func (a *Answer) Target() string { return a.owner }

// decide sets the answer for a.lower.
func (a *Answer) decide() {
	switch {
	case a.Zone != nil && a.transfer():
		a.Outcome, a.why = Refused, IsTransfer
		return
	case a.fromHosts():
		a.why = FromHosts
		return
	case a.Zone == nil:
		if a.why = FromHosts; !a.fromWildcard() {
			a.Outcome, a.why = NotOurs, OutsideZones
		}
		return
	}
	a.Stale = max(a.state.Snapshot(), a.view.Snapshot)
	if a.outside != nil {
		a.fromExternal()
		return
	}
	a.fromServices()
}

// noData makes the answer NODATA: the name exists, but has no record of the type.
func (a *Answer) noData() {
	a.Kind, a.Rcode, a.Denied = None, dns.RcodeSuccess, a.Zone != nil
}

// nameError answers for a name that neither hosts entries nor objects have. It still exists if a name below it does
// (RFC 8020). If not, a hosts wildcard may cover it.
func (a *Answer) nameError() {
	switch {
	case a.view.aboveZone(a.lower):
		a.why = AboveZone
		a.noData()
	case a.aboveHosts():
		a.why = AboveHosts
		a.noData()
	case a.fromWildcard():
		a.why = FromHosts
	case a.view.FallsThrough(a.lower):
		a.Outcome, a.why = NotOurs, FellThrough
	case a.passedOn:
		a.why = HostsLackType
		a.noData()
	case !a.known():
		a.Rcode, a.Denied, a.NotReady, a.why = dns.RcodeServerFailure, true, true, NothingRead
	default:
		a.Rcode, a.Denied, a.why = dns.RcodeNameError, true, NoName
	}
}

// known reports whether all objects that answers in Zone depend on were read or come from a snapshot.
func (a *Answer) known() bool {
	if a.outside != nil && !a.outside.Restored(a.Zone.depends) {
		return false
	}
	return a.state.Known(&a.view.Options, a.Zone.Imported)
}

// alias moves on from an ExternalName, or from a load balancer known by hostname, to its target, and reports whether
// this View answers for the target. A target outside the zone is a Follow.
func (a *Answer) alias() bool {
	if a.Kind != None || a.Denied {
		return false
	}
	target := a.cname
	switch {
	case a.source == fromExternal && target != "":
		a.AliasTTL = min(a.AliasTTL, a.TTL)
	case a.source == fromServices && a.match.Outcome == services.Alias:
		target = a.match.Service().ExternalName()
	default:
		return false
	}
	a.match, a.cname = services.Match{}, ""
	if a.Type == dns.TypeCNAME || a.Type == dns.TypeANY { // RFC 1034, section 3.6.2
		a.Aliases = append(a.Aliases, target)
		return false
	}
	a.owner, a.lower = target, ToLower(target)
	if len(a.Aliases) == MaxAliases || a.lower == a.Question.Lower || slices.Contains(a.Aliases, target) {
		a.Aliases, a.Rcode, a.Denied, a.why = nil, dns.RcodeServerFailure, true, AliasLoop
		return false
	}
	a.Aliases = append(a.Aliases, target)
	if a.view.ZoneOf(a.lower) != a.Zone {
		a.Outcome = Follow
		return false
	}
	return true
}

// Extended returns the Extended DNS Error of the answer (RFC 8914). ok is false if there is none.
func (a *Answer) Extended() (code uint16, text string, ok bool) {
	switch {
	case a.NotReady:
		return dns.ExtendedErrorCodeNotReady, "no objects were read from the Kubernetes API yet", true
	case a.Stale != 0:
		return dns.ExtendedErrorCodeStaleAnswer, "snapshot of " + time.Unix(int64(a.Stale), 0).UTC().Format(time.RFC3339), true
	}
	return 0, "", false
}

// as returns suffix, a lower-case name that the owner name ends in, with the case of the owner
// name.
func (a *Answer) as(suffix string) string { return a.owner[len(a.owner)-len(suffix):] }

// ZoneName returns the name of Zone with the case of the question.
func (a *Answer) ZoneName() string { return a.Name[len(a.Name)-len(a.Zone.Name):] }

// Authority is the data of a zone's SOA record (RFC 1035, section 3.3.13). Its names have the case of the question.
type Authority struct {
	Owner, NS, Mbox                         string
	TTL                                     uint32
	Serial, Refresh, Retry, Expire, Minimum uint32
}

// zoneTTL is the TTL of the records of Zone, in seconds.
func (a *Answer) zoneTTL() uint32 {
	if a.Zone.External != nil {
		return a.Zone.External.TTL
	}
	return a.view.TTL
}

// Authority returns the SOA record of Zone, which must not be nil.
func (a *Answer) Authority() Authority {
	z := a.Zone
	ttl := a.zoneTTL()
	soa := Authority{
		Owner: a.ZoneName(), NS: z.NS, Mbox: z.Mbox, TTL: min(ttl, 300), Serial: a.view.SerialOf(a.state, a.outside),
		Refresh: 7200, Retry: 1800, Expire: 86400, Minimum: ttl,
	}
	if soa.Owner != z.Name {
		soa.NS, soa.Mbox = Under("ns.dns.", soa.Owner), Under("hostmaster.", soa.Owner)
	}
	return soa
}

// VersionText is the version of the Kubernetes DNS specification that the names follow (section 2.2). VersionTTL is the
// TTL of its TXT record in seconds.
const (
	VersionText = "1.1.0"
	VersionTTL  = 28800
)
