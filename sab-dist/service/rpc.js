/** gRPC over Unix sockets and loopback TCP, with coded errors: the door to both sides of it. */
export * from './rpc_client.js';
export * from './rpc_server.js';
//# sourceMappingURL=rpc.js.map