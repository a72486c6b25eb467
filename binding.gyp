{
  "variables": {
    # Wherever npm has put it.
    "lz4": "<!(node -p \"require('path').relative(process.cwd(), require('path').dirname(require.resolve('lz4/package.json')))\")/deps/lz4/lib"
  },
  "targets": [
    {
      "target_name": "afterimage",
      "sources": [
        "<!@(ls native/*/*.cc | grep -v native/supervisor/)",
        "<(lz4)/lz4.c"
      ],
      "include_dirs": [
        "native",
        "<!@(node -p \"require('node-addon-api').include_dir\")",
        "<(lz4)"
      ],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_ADDON_API_CPP_EXCEPTIONS", "_FILE_OFFSET_BITS=64"],
      "cflags": ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++20", "-fexceptions"]
    },
    {
      "target_name": "afterimage-supervisor",
      "type": "executable",
      "sources": [
        "<!@(ls native/supervisor/*.cc)",
        "native/os/io_thread.cc",
        "native/os/notify_socket.cc",
        "native/os/pinned_memory.cc",
        "native/os/result.cc"
      ],
      "include_dirs": ["native"],
      "cflags": ["-O2", "-g", "-Wall", "-Wextra", "-Werror"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++20", "-fexceptions"]
    }
  ]
}
