export {};
//# sourceMappingURL=session_events.js.map