// Which hosts may be reached that strangers name: what is public, and what the operator has allowed inside the own network.
import ipaddr from 'ipaddr.js';
import { ConfigError } from '../../src/config.ts';

export interface Addresses {
  /** Whether this exact address may be dialled, for a host of this name. */
  permitsAddress(address: string, name: string): boolean;
  /** False for an address, or a name of this machine, that may not be dialled; a name says nothing else before it is resolved. */
  permitsHost(hostname: string): boolean;
  /** The operator has named this host. */
  isNamed(name: string): boolean;
}

type Network = [ipaddr.IPv4 | ipaddr.IPv6, number];

/** Everything public that IANA has given out so far; what lies outside (`::7f00:1`) is some translation of something else. */
const GLOBAL_V6 = ipaddr.parseCIDR('2000::/3') as Network;

/** Throws a ConfigError that names the setting for an entry that is no name, address or network. */
export function createAddresses(allow: readonly string[], setting = 'HONO_AI_WEBHOOK_ALLOW'): Addresses {
  const names = new Set<string>();
  const networks: Network[] = [];
  for (const entry of allow) {
    const network = toNetwork(entry);
    if (network) networks.push(network);
    else names.add(toListedName(entry, setting));
  }

  function permitsAddress(text: string, name: string): boolean {
    if (!ipaddr.isValid(text)) return false;
    if (names.has(name)) return true;
    // What is really dialled: an IPv4 address inside an IPv6 one is that IPv4 address.
    const address = ipaddr.process(text);
    if (networks.some((network) => network[0].kind() === address.kind() && address.match(network as never)))
      return true;
    if (address.range() !== 'unicast') return false;
    return address.kind() === 'ipv4' || address.match(GLOBAL_V6 as never);
  }

  return {
    permitsAddress,
    permitsHost(hostname) {
      const name = toName(hostname);
      if (ipaddr.isValid(name)) return permitsAddress(name, name);
      if (!/(^|\.)localhost$/.test(name)) return true;
      return permitsAddress('127.0.0.1', name) || permitsAddress('::1', name);
    },
    isNamed: (name) => names.has(name),
  };
}

/** A URL's hostname → the name or address itself: without brackets and without the dot of the root. */
export function toName(hostname: string): string {
  return hostname
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')
    .toLowerCase();
}

function toNetwork(entry: string): Network | undefined {
  const text = entry.replace(/^\[(.*)\]$/, '$1');
  if (ipaddr.isValidCIDR(text)) return ipaddr.parseCIDR(text) as Network;
  // Only four whole numbers: `10` and `127.1` are addresses to some and names to others.
  if (!ipaddr.IPv6.isValid(text) && !ipaddr.IPv4.isValidFourPartDecimal(text)) return undefined;
  const address = ipaddr.process(text);
  return [address, address.kind() === 'ipv4' ? 32 : 128];
}

/** As a URL would spell it, international names included. */
function toListedName(entry: string, setting: string): string {
  const url = `http://${entry}/`;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (
    !parsed ||
    parsed.pathname !== '/' ||
    parsed.host !== parsed.hostname ||
    parsed.username ||
    /[\s/?#@:*]/.test(entry)
  ) {
    throw new ConfigError(`${setting}: "${entry}" is no host name, address or network`);
  }
  return toName(parsed.hostname);
}
