import type net from 'node:net';

/** Of a socket; -1: it has none any more. Node has no other way to it. */
export function descriptorOf(socket: net.Socket): number {
  const { _handle: handle } = socket as net.Socket & { _handle?: { fd?: number } | null };
  return handle?.fd ?? -1;
}
