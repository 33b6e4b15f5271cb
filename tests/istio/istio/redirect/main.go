// Redirects the connections of a pod to its sidecar, as Istio's init container does. It changes the network namespace
// that it runs in.
//
//	redirect inbound INTERFACE     connections that come in by this interface go to port 15006
//	redirect outbound INTERFACE    connections of the application, which is behind this interface, go to port 15001
package main

import (
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The ports that Istio leaves alone: HBONE, health, and statistics.
var ports = map[string]uint16{"inbound": 15006, "outbound": 15001}
var excluded = []uint16{15006, 15008, 15020, 15021, 15090}

func interfaceName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

func redirect(direction, device string) error {
	port := ports[direction]
	connection, err := nftables.New()
	if err != nil {
		return err
	}
	table := connection.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "sidecar-" + direction})
	chain := connection.AddChain(&nftables.Chain{
		Name:     "prerouting",
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityNATDest,
	})
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(device)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
	for _, other := range excluded {
		rule = append(rule,
			// The destination port of TCP.
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.BigEndian.PutUint16(other)})
	}
	rule = append(rule,
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1})
	connection.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	return connection.Flush()
}

func main() {
	if len(os.Args) != 3 || ports[os.Args[1]] == 0 {
		fmt.Fprintln(os.Stderr, "usage: redirect inbound|outbound INTERFACE")
		os.Exit(2)
	}
	if err := redirect(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "redirect:", err)
		os.Exit(1)
	}
}
