//! How this process takes memory.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Does without transparent huge pages: an idle node uses a little here and there of much address space, and a third of
/// what it would hold were the untouched rest of huge pages. The shim takes this back for its pod.
pub fn use_small_pages() {
    // SAFETY: this prctl touches no memory. Where the kernel refuses it, pages are as they were.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}
